"""Copies of training images, which FID, KID and precision cannot see."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scalegan.errors import DataError
from scalegan.metrics.neighbors import nearest


class Copies(NamedTuple):
    """Shares of samples that equal others, to the pixel."""

    copied_share: float
    """Of training images."""
    duplicate_share: float
    """Of earlier samples."""


# authentic(f) = 1 if |f - t| > min over t' != t of |t - t'|, t = argmin over T of |f - t|
# (Alaa et al., arXiv 2102.08921, as dgm-eval computes it).
def authenticity_percent(training: Float[Tensor, "N E"], fake: Float[Tensor, "M E"]) -> float:
    """Percentage of generated samples that are no closer to training data than it is to itself."""
    among = nearest(training, training, is_same=True).distances
    found = nearest(fake, training)
    is_authentic = found.distances[:, 0] > among[found.indices[:, 0], 0]
    return 100 * is_authentic.double().mean().item()


def nearest_ratio(training: Float[Tensor, "N E"], fake: Float[Tensor, "M E"]) -> float:
    """Median distance of samples to the nearest real one, over that of real ones to each other.

    Far below 1, samples are copies of the training data.
    """
    among = nearest(training, training, is_same=True).distances.median()
    return (nearest(fake, training).distances.median() / among).item()


def copies(real: Int64[Tensor, " N"], fake: Int64[Tensor, " M"]) -> Copies:
    """Exact copies of training images and of other samples, found by the images' hashes.

    Raises:
        DataError: if there are no samples.
    """
    if not len(fake):
        raise DataError("no samples, no share of copies")
    copied = torch.isin(fake, real).double().mean().item()
    return Copies(copied, 1 - len(fake.unique()) / len(fake))
