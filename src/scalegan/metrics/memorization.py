"""Copies of training images, which FD, KID and precision cannot see.

Authenticity: Alaa et al., arXiv 2102.08921, as dgm-eval computes it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from scalegan.errors import DataError
from scalegan.metrics.neighbors import Neighbors, nearest


class Copies(NamedTuple):
    """Shares of samples that equal others, to the pixel."""

    copied_share: float
    """Of training images."""
    duplicate_share: float
    """Of earlier samples."""


def nearest_training(
    training: Float[Tensor, "N E"], fake: Float[Tensor, "M E"], k: int = 1
) -> Neighbors:
    """The k nearest training samples of each generated one: distances and indices (M, k)."""
    return nearest(fake, training, k)


def authenticity_percent(
    training: Float[Tensor, "N E"],
    fake: Float[Tensor, "M E"],
    training_neighbors: Float64[Tensor, "N R"] | None = None,
) -> float:
    """Percentage of generated samples that are no closer to training data than it is to itself.

    A sample is authentic if it is farther from its nearest training sample than that one is from
    its own nearest other training sample.

    Args:
        training: features of the training images.
        fake: features of generated samples.
        training_neighbors: `nearest(training, training, K, is_same=True).distances`, where it is
            known already.
    """
    if training_neighbors is None:
        training_neighbors = nearest(training, training, is_same=True).distances
    found = nearest_training(training, fake)
    is_authentic = found.distances[:, 0] > training_neighbors[found.indices[:, 0], 0]
    return 100 * is_authentic.double().mean().item()


def copies(real: Int64[Tensor, " N"], fake: Int64[Tensor, " M"]) -> Copies:
    """Exact copies, found by the images' hashes.

    Raises:
        DataError: if there are no samples.
    """
    if not len(fake):
        raise DataError("no samples, no share of copies")
    copied = torch.isin(fake, real).double().mean().item()
    return Copies(copied, 1 - len(fake.unique()) / len(fake))
