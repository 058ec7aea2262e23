"""How far generated samples are from each other: what falls when a generator collapses."""

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.errors import DataError


def diversity(features: Float[Tensor, "N E"]) -> float:
    """Mean Euclidean distance between two different rows, on the scale of the features.

    Raises:
        DataError: if there are fewer than two rows or a value is not finite.
    """
    if len(features) < 2:
        raise DataError(f"{len(features)} rows have no distance; at least 2 are needed")
    if not features.isfinite().all():
        raise DataError("features hold a value that is not finite")
    return torch.pdist(features.double()).mean().item()
