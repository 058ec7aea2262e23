"""Statistics of features, in float64."""

from typing import NamedTuple

from jaxtyping import Float, Float64
from torch import Tensor


class Moments(NamedTuple):
    """Mean and covariance (divided by the count minus one) of features."""

    mean: Float64[Tensor, " E"]
    covariance: Float64[Tensor, "E E"]


def moments(features: Float[Tensor, "N E"]) -> Moments:
    """Moments of at least two rows."""
    features = features.double()
    mean = features.mean(dim=0)
    centered = features - mean
    return Moments(mean, centered.T @ centered / (len(features) - 1))
