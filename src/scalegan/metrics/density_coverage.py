"""Density and coverage (arXiv 2002.09797). Inclusion is `<`, as in the authors' code (prdc).

Only balls around real samples count, so that generated outliers do no harm. Real samples against
other real ones at equal counts: density about 1, coverage about 1 - 2^-k.
"""

from typing import NamedTuple

from jaxtyping import Float, Float64
from torch import Tensor

from scalegan.metrics.neighbors import inside
from scalegan.metrics.precision_recall import radii


class DensityCoverage(NamedTuple):
    """Density may exceed 1; coverage is a share in 0..1."""

    density: float
    """Mean number of real balls that a fake sample lies in, over k."""
    coverage: float
    """Of the real samples, those whose ball holds a fake one."""


def density_coverage(
    real: Float[Tensor, "N E"],
    fake: Float[Tensor, "M E"],
    k: int = 5,
    real_neighbors: Float64[Tensor, "N R"] | None = None,
) -> DensityCoverage:
    """Balls reach to the k-th nearest other real sample.

    Args:
        real: features of real samples.
        fake: features of generated samples.
        k: neighbors.
        real_neighbors: `nearest(real, real, K, is_same=True).distances` with K >= k, where it is
            known already.

    Raises:
        DataError: if the real side has no k neighbors or a value is not finite.
    """
    found = inside(fake, real, radii(real, k, real_neighbors), is_strict=True)
    return DensityCoverage(
        found.per_point.double().mean().item() / k, (found.per_ball > 0).double().mean().item()
    )
