"""The Frechet distance between two Gaussians, as FID uses it (Heusel et al., arXiv 1706.08500).

FID, sFID and FD-DINOv2 are this on different features. Covariances are divided by the count minus
one, as most tools do; the StyleGAN family divides by the count.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from scalegan.errors import DataError
from scalegan.metrics.statistics import Moments, RunningMoments

ROUNDING = 1e-6
"""What rounding may add to a distance or take from it, as a share of the traces."""


class Extrapolated(NamedTuple):
    """The value at infinitely many samples of a line through distances against 1 / count."""

    value: float
    slope: float
    sizes: list[int]
    distances: list[float]


# d^2 = |m_r - m_f|^2 + Tr(C_r + C_f - 2 (C_r C_f)^(1/2))
# (Dowson and Landau 1982; arXiv 1706.08500, equation 6).
def frechet_distance(real: Moments, fake: Moments) -> float:
    """The squared Frechet distance between Gaussians of these means and covariances.

    Fast where both covariances are well conditioned, otherwise by a slower way that is exact for
    any rank. A value slightly below zero is rounding.

    Raises:
        DataError: if widths differ, or a covariance is not finite, symmetric and non-negative.
    """
    check_moments(real, fake)
    traces = real.covariance.trace() + fake.covariance.trace()
    root = _fast_trace_of_root(real.covariance, fake.covariance)
    if root is None:
        root = nuclear_norm(_factor(real.covariance), _factor(fake.covariance))
    return _total(real.mean - fake.mean, traces, root)


def frechet_distance_of_features(real: Float[Tensor, "N E"], fake: Float[Tensor, "M E"]) -> float:
    """The squared Frechet distance of at least two rows each; cheap for fewer rows than features.

    Raises:
        DataError: if a side has fewer than two rows, or a value is not finite.
    """
    if min(len(real), len(fake)) < 2:
        raise DataError(f"{len(real)} and {len(fake)} rows; at least 2 are needed on each side")
    sides = [side.double() for side in (real, fake)]
    means = [side.mean(dim=0) for side in sides]
    factors = []
    for side, mean in zip(sides, means, strict=True):
        if not mean.isfinite().all():
            raise DataError("features hold a value that is not finite")
        rows = (side - mean) / (len(side) - 1) ** 0.5  # rows.T @ rows is the covariance
        # The triangle of a QR decomposition has the same products and fewer rows.
        factors.append((torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows).T)
    traces = factors[0].square().sum() + factors[1].square().sum()
    return _total(means[0] - means[1], traces, nuclear_norm(*factors))


# FD_n ~ FD_infinity + slope / n: least squares over n, read at 1 / n = 0
# (Chong and Forsyth, arXiv 1911.07023).
def frechet_infinity(
    real: Moments, fake: Float[Tensor, "N E"], num_sizes: int = 15
) -> Extrapolated:
    """Distance extrapolated to infinitely many generated samples; it may fall below zero.

    Sizes are those of dgm-eval: evenly spaced from min(5000, max(N // 10, 2)) to N. Of each the
    first rows are taken, so rows must be in random order.

    Raises:
        DataError: if there are too few rows for two sizes.
    """
    smallest = min(5000, max(len(fake) // 10, 2))
    if len(fake) <= smallest:
        raise DataError(f"{len(fake)} rows; at least 3 are needed to extrapolate")
    steps = range(num_sizes)
    sizes = [smallest + i * (len(fake) - smallest) // (num_sizes - 1) for i in steps]
    running, distances, begin = RunningMoments(fake.shape[1]), [], 0
    for size in sizes:
        running.add(fake[begin:size])
        distances.append(frechet_distance(real, running.moments()))
        begin = size
    value, slope = _line([1 / size for size in sizes], distances)
    return Extrapolated(value, slope, sizes, distances)


def too_few(count: int, width: int) -> str:
    """A sentence on a count that leaves a covariance without full rank; empty if it does not."""
    if not 0 < count <= width:
        return ""
    return (
        f"{count:,} samples are too few for {width:,} features: the distance is defined but "
        "strongly biased; compare at this count only"
    )


def check_moments(*sides: Moments) -> None:
    """Refuse means and covariances that cannot be those of features.

    Raises:
        DataError: if widths differ, or a covariance is not finite, symmetric and non-negative.
    """
    widths = {len(side.mean) for side in sides}
    if len(widths) > 1:
        raise DataError(f"means have {' and '.join(map(str, sorted(widths)))} features")
    for mean, covariance in ((side.mean, side.covariance) for side in sides):
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise DataError("a mean or covariance holds a value that is not finite")
        scale = covariance.diagonal().abs().max()
        if (covariance - covariance.T).abs().max() > 1e-8 * scale:
            raise DataError("a covariance is not symmetric")
        if (covariance.diagonal() < 0).any():
            raise DataError("a covariance has a negative variance")


def nuclear_norm(a: Float64[Tensor, "E A"], b: Float64[Tensor, "E B"]) -> Float64[Tensor, ""]:
    """Tr((A A^T B B^T)^(1/2)), the sum of the singular values of A^T B.

    Eigenvalues would be their squares: a zero comes out as 1e-16, and its root as 1e-8.
    """
    return torch.linalg.svdvals(a.T @ b).sum()


def _fast_trace_of_root(a: Tensor, b: Tensor) -> Tensor | None:
    """From the eigenvalues of L^T B L with A = L L^T; None where rounding could be seen."""
    triangle, failure = torch.linalg.cholesky_ex(a)
    if failure:
        return None
    values = torch.linalg.eigvalsh(triangle.T @ b @ triangle)
    rounding = torch.finfo(values.dtype).eps * values[-1]
    if values[0] <= rounding:
        return None
    # Each value is off by up to about `rounding`, and its root by half of that over the root.
    traces = a.trace() + b.trace()
    if (rounding / values.sqrt()).sum() > 1e-9 * traces:
        return None
    return values.sqrt().sum()


def _factor(covariance: Tensor) -> Tensor:
    """F with F F^T = the covariance, as many columns as it has rank."""
    values, vectors = torch.linalg.eigh(covariance)
    rounding = len(values) * torch.finfo(values.dtype).eps * values[-1]
    if values[0] < -1e3 * rounding - 1e-300:
        raise DataError(f"a covariance has the negative eigenvalue {values[0]:.3g}")
    kept = values > rounding
    return vectors[:, kept] * values[kept].sqrt()


def _total(difference: Tensor, traces: Tensor, root: Tensor) -> float:
    value = float(difference.square().sum() + traces - 2 * root)
    assert value >= -ROUNDING * float(traces), f"a squared distance of {value}"
    return value


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least squares: value at zero, and slope."""
    xs, ys = torch.tensor([x, y], dtype=torch.float64)
    centered = xs - xs.mean()
    slope = (centered @ (ys - ys.mean())) / centered.square().sum()
    return float(ys.mean() - slope * xs.mean()), float(slope)
