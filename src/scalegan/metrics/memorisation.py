"""Copies of training images, which FD, KID and precision cannot see.

Authenticity: Alaa et al., arXiv 2102.08921, as dgm-eval computes it.
"""

import hashlib
from collections.abc import Collection

from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from scalegan.errors import DataError
from scalegan.metrics.neighbours import Neighbours, nearest


def nearest_training(
    training: Float[Tensor, "N E"], fake: Float[Tensor, "M E"], k: int = 1
) -> Neighbours:
    """The k nearest training samples of each generated one: distances and indices (M, k)."""
    return nearest(fake, training, k)


def authenticity_percent(
    training: Float[Tensor, "N E"],
    fake: Float[Tensor, "M E"],
    training_neighbours: Float64[Tensor, "N R"] | None = None,
) -> float:
    """Percentage of generated samples that are no closer to training data than it is to itself.

    A sample is authentic if it is farther from its nearest training sample than that one is from
    its own nearest other training sample.

    Args:
        training: features of the training images.
        fake: features of generated samples.
        training_neighbours: `nearest(training, training, K, is_same=True).distances`, where it is
            known already.
    """
    if training_neighbours is None:
        training_neighbours = nearest(training, training, is_same=True).distances
    found = nearest_training(training, fake)
    is_authentic = found.distances[:, 0] > training_neighbours[found.indices[:, 0], 0]
    return 100 * is_authentic.double().mean().item()


def digests(images: UInt8[Tensor, "N ..."]) -> list[bytes]:
    """What tells images apart: 16 bytes each, equal for equal pixels only. Kept while streaming."""
    rows = images.flatten(1).cpu().contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def duplicate_share(samples: Collection[bytes]) -> float:
    """Share of samples that equal an earlier one, from their digests."""
    if not samples:
        raise DataError("no samples, no share of duplicates")
    return 1 - len(set(samples)) / len(samples)


def copied_share(training: Collection[bytes], samples: Collection[bytes]) -> float:
    """Share of samples that are exact copies of training images, from their digests."""
    if not samples:
        raise DataError("no samples, no share of copies")
    known = set(training)
    return sum(sample in known for sample in samples) / len(samples)
