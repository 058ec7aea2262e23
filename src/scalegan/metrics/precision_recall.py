"""Improved precision and recall (arXiv 1904.06991). Inclusion is `<=`, as in the paper."""

from typing import NamedTuple

from jaxtyping import Float, Float64
from torch import Tensor

from scalegan.metrics.neighbors import inside, nearest


class PrecisionRecall(NamedTuple):
    """Shares in 0..1."""

    precision: float
    """Of the fake samples, those inside a ball of a real one."""
    recall: float
    """Of the real samples, those inside a ball of a fake one."""


def precision_recall(
    real: Float[Tensor, "N E"],
    fake: Float[Tensor, "M E"],
    k: int = 3,
    real_neighbors: Float64[Tensor, "N R"] | None = None,
    fake_neighbors: Float64[Tensor, "M S"] | None = None,
) -> PrecisionRecall:
    """Balls reach to the k-th nearest other sample of the same set.

    Args:
        real: features of real samples.
        fake: features of generated samples; recall depends strongly on how many there are.
        k: neighbors.
        real_neighbors: `nearest(real, real, K, is_same=True).distances` with K >= k, where it is
            known already.
        fake_neighbors: the same of fake.

    Raises:
        DataError: if a side has no k neighbors or a value is not finite.
    """
    real_radii, fake_radii = radii(real, k, real_neighbors), radii(fake, k, fake_neighbors)
    is_precise = inside(fake, real, real_radii, is_strict=False).per_point > 0
    is_recalled = inside(real, fake, fake_radii, is_strict=False).per_point > 0
    return PrecisionRecall(is_precise.double().mean().item(), is_recalled.double().mean().item())


def radii(
    bank: Float[Tensor, "N E"], k: int, neighbors: Float64[Tensor, "N R"] | None = None
) -> Float64[Tensor, " N"]:
    """Distance of each row to its k-th nearest other row."""
    if neighbors is None:
        neighbors = nearest(bank, bank, k, is_same=True).distances
    return neighbors[:, k - 1]
