"""Image i depends on seed i and on nothing else."""

import functools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.autoencoders.pixels import Identity
from scalegan.inference.sampling import labels_for, noise_for, stream_images
from scalegan.interfaces import Images
from scalegan.models.gat import GATGenerator
from tests.support import tiny

SEEDS = range(12)


@functools.cache
def generator() -> GATGenerator:
    torch.manual_seed(0)
    network = GATGenerator(tiny.MODEL, (1, 8, 8), tiny.NUM_CLASSES).eval()
    network.track(torch.randn(3, 16), torch.arange(3))
    return network


def draw(seeds: list[int], batch_size: int, truncation: float, guidance: float) -> Images:
    labels = labels_for(seeds, range(tiny.NUM_CLASSES))
    autoencoder = Identity(1, 8)
    parts = stream_images(generator(), autoencoder, seeds, labels, truncation, guidance, batch_size)
    return torch.cat(list(parts))


@settings(max_examples=30, deadline=None)
@given(
    seeds=st.permutations(SEEDS),
    batch_size=st.integers(1, 13),
    strengths=st.sampled_from([(1.0, 1.0), (0.5, 1.0), (0.7, 2.0)]),
)
def test_for_every_batch_size_and_order(
    seeds: list[int], batch_size: int, strengths: tuple[float, float]
) -> None:
    mixed, ordered = draw(seeds, batch_size, *strengths), draw(list(SEEDS), 12, *strengths)
    difference = (mixed.int() - ordered[seeds].int()).abs()
    # A product may be rounded otherwise in a batch of another size: that is a bit in the last
    # place of a float, and may turn a pixel that lies between two values.
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.001
    alone = torch.cat([noise_for([seed], (8,)) for seed in seeds])
    assert torch.equal(noise_for(seeds, (8,)), alone)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 3))
def test_for_every_number_of_ranks(first: int, num_ranks: int) -> None:
    seeds = list(range(first, first + 6))
    whole = noise_for(seeds, (8,))
    for rank in range(num_ranks):
        assert torch.equal(noise_for(seeds[rank::num_ranks], (8,)), whole[rank::num_ranks])
