"""Precision, recall, density and coverage: how two sets of features overlap, by balls around rows.

The ball of a row reaches to its k-th nearest other row of the same set.
"""

from typing import NamedTuple

from jaxtyping import Float, Float64
from torch import Tensor

from scalegan.metrics.neighbors import inside, nearest


class PrecisionRecall(NamedTuple):
    """Shares in 0..1."""

    precision: float
    """Of the generated samples, those inside a ball of a real one."""
    recall: float
    """Of the real samples, those inside a ball of a generated one."""


class DensityCoverage(NamedTuple):
    """Density may exceed 1; coverage is a share in 0..1."""

    density: float
    """Mean number of real balls that a generated sample lies in, over k."""
    coverage: float
    """Of the real samples, those whose ball holds a generated one."""


# f(x, S) = 1 if |x - s| <= NN_k(s) for some s in S, else 0;
# precision = mean of f(fake, Real), recall = mean of f(real, Fake)
# (Kynkaanniemi et al., arXiv 1904.06991, equations 1 and 2).
def precision_recall(
    real: Float[Tensor, "N E"], fake: Float[Tensor, "M E"], k: int = 3
) -> PrecisionRecall:
    """Improved precision and recall; recall depends strongly on the number of samples.

    Raises:
        DataError: if a side has no k neighbors or a value is not finite.
    """
    is_precise = inside(fake, real, _radii(real, k), is_strict=False).per_point > 0
    is_recalled = inside(real, fake, _radii(fake, k), is_strict=False).per_point > 0
    return PrecisionRecall(is_precise.double().mean().item(), is_recalled.double().mean().item())


# density = 1/(k M) sum_j sum_i 1[|fake_j - real_i| < NN_k(real_i)],
# coverage = 1/N sum_i 1[some j: |fake_j - real_i| < NN_k(real_i)]
# (Naeem et al., arXiv 2002.09797, section 3; `<` as in the authors' code, prdc).
def density_coverage(
    real: Float[Tensor, "N E"], fake: Float[Tensor, "M E"], k: int = 5
) -> DensityCoverage:
    """Density and coverage; only balls of real samples count, so generated outliers do no harm.

    Real samples against other real ones at equal counts have a density of about 1 and a coverage
    of about 1 - 2^-k.

    Raises:
        DataError: if the real side has no k neighbors or a value is not finite.
    """
    found = inside(fake, real, _radii(real, k), is_strict=True)
    density = found.per_point.double().mean().item() / k
    return DensityCoverage(density, (found.per_ball > 0).double().mean().item())


def _radii(bank: Float[Tensor, "N E"], k: int) -> Float64[Tensor, " N"]:
    return nearest(bank, bank, k, is_same=True).distances[:, k - 1]
