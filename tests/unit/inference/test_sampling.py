import pytest
import torch
from torch import nn

from scalegan.autoencoders.pixels import Identity
from scalegan.errors import ConfigError
from scalegan.inference.sampling import labels_for, noise_for, paint, stream_images, styles_for
from scalegan.interfaces import Generator
from scalegan.models.gat import GATGenerator
from tests.support import tiny

IDENTITY = Identity(1, 8)


@pytest.fixture
def generator() -> GATGenerator:
    torch.manual_seed(0)
    return GATGenerator(tiny.MODEL, (1, 8, 8), tiny.NUM_CLASSES).eval()


class Plain(Generator):
    """A generator that neither truncates nor guides."""

    def __init__(self) -> None:
        super().__init__()
        self.z_shape = (2,)
        self.scale = nn.Parameter(torch.ones(1))

    def map(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return z * self.scale

    def synthesize(self, w: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def test_consecutive_seeds_walk_through_the_classes() -> None:
    assert labels_for(range(4, 9), [0, 2, 7]).tolist() == [2, 7, 0, 2, 7]
    assert labels_for([9, 0], [5]).tolist() == [5, 5]


def test_noise_of_a_seed_is_its_own() -> None:
    together = noise_for([3, 1, 4], (2, 5))
    assert together.shape == (3, 2, 5)
    assert torch.equal(together[1:2], noise_for([1], (2, 5)))
    assert not torch.equal(together[0], together[1])


def test_noise_is_standard_normal() -> None:
    noise = noise_for(range(500), (64,))
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_styles_are_truncated_then_guided(generator: GATGenerator) -> None:
    labels = torch.tensor([0, 1])
    z = noise_for([0, 1], (8,))
    generator.track(torch.randn(2, 16), labels)
    plain = styles_for(generator, [0, 1], labels)
    assert torch.equal(plain, generator.map(z, labels))
    truncated = generator.truncate(plain, labels, 0.5)
    assert torch.equal(styles_for(generator, [0, 1], labels, 0.5), truncated)
    both = styles_for(generator, [0, 1], labels, 0.5, 3.0)
    assert torch.equal(both, generator.guide(truncated, z, 3.0))


@pytest.mark.parametrize(
    ("options", "message"), [({"truncation": 0.5}, "truncation"), ({"guidance": 2.0}, "guidance")]
)
def test_abilities_that_are_missing_are_refused(options: dict[str, float], message: str) -> None:
    labels = torch.tensor([0])
    assert styles_for(Plain(), [0], labels).shape == (1, 2)
    with pytest.raises(ConfigError, match=rf"^Plain has no {message}$"):
        styles_for(Plain(), [0], labels, **options)


def test_paint_shows_the_level_that_is_asked_for(generator: GATGenerator) -> None:
    w = styles_for(generator, [0, 1], torch.tensor([0, 1]))
    with torch.no_grad():
        levels = generator.synthesize(w)
    assert torch.equal(paint(generator, IDENTITY, w), IDENTITY.decode(levels[:, 3]))
    assert torch.equal(paint(generator, IDENTITY, w, level=0), IDENTITY.decode(levels[:, 0]))


def test_sample_comes_in_batches_in_order(generator: GATGenerator) -> None:
    seeds, labels = [5, 0, 9, 2, 7], torch.tensor([0, 1, 2, 0, 1])
    batches = list(stream_images(generator, IDENTITY, seeds, labels, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    whole = paint(generator, IDENTITY, styles_for(generator, seeds, labels))
    assert torch.equal(torch.cat(batches), whole)
    assert list(stream_images(generator, IDENTITY, [], labels[:0])) == []


def test_sampling_keeps_no_graph_and_no_random_state(generator: GATGenerator) -> None:
    before = torch.get_rng_state()
    w = styles_for(generator, [0], torch.tensor([0]))
    assert not w.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
