"""Kernel distance, KID (arXiv 1801.01401): squared MMD with the kernel (x.y / E + 1)^3, unbiased.

Values below zero are right and are never clipped. Often shown times 1,000: then say so.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from scalegan.errors import DataError

PART = 1024
"""Rows per block of the kernel matrix."""


class Estimate(NamedTuple):
    """The value on all rows and its standard error (to first order, over draws of the rows)."""

    value: float
    standard_error: float


class SubsetScore(NamedTuple):
    """Over subsets: mean, population standard deviation, and the error of the mean.

    The deviation is that of one subset's value, not the error. The error takes subsets for
    independent; they share rows, so that of `kernel_estimate` is the one to trust.
    """

    mean: float
    std: float
    standard_error: float


def kernel_distance(real: Float[Tensor, "N E"], fake: Float[Tensor, "M E"]) -> float:
    """The unbiased estimate on all rows at once: no randomness. Time grows with (N + M)^2."""
    return kernel_estimate(real, fake).value


def kernel_estimate(real: Float[Tensor, "N E"], fake: Float[Tensor, "M E"]) -> Estimate:
    """The same with its standard error, from the means over rows of the kernel matrices.

    Raises:
        DataError: if a side has fewer than two rows or a value is not finite.
    """
    _check(real, fake)
    within_real, within_fake = _means(real, real, is_same=True), _means(fake, fake, is_same=True)
    real_to_fake, fake_to_real = _means(real, fake), _means(fake, real)
    value = within_real.mean() + within_fake.mean() - 2 * real_to_fake.mean()
    # First-order (Hoeffding) variance: each row's share of the estimate, on both sides.
    shares = (within_real - real_to_fake, within_fake - fake_to_real)
    variance = sum(4 * share.var() / len(share) for share in shares)
    return Estimate(value.item(), float(variance) ** 0.5)


def kernel_distance_subsets(
    real: Float[Tensor, "N E"],
    fake: Float[Tensor, "M E"],
    rows_real: Int[Tensor, "S A"],
    rows_fake: Int[Tensor, "S B"],
) -> SubsetScore:
    """The usual protocol: the estimate on subsets of given rows, one per line of the tables."""
    _check(real, fake)
    values = []
    for mine, theirs in zip(rows_real.long(), rows_fake.long(), strict=True):
        a, b = real[mine], fake[theirs]
        within = _means(a, a, is_same=True).mean() + _means(b, b, is_same=True).mean()
        values.append(within - 2 * _means(a, b).mean())
    all_values = torch.stack(values)
    std = all_values.std(correction=0).item()
    error = std / (len(values) - 1) ** 0.5 if len(values) > 1 else float("nan")
    return SubsetScore(all_values.mean().item(), std, error)


def draw_rows(
    num_real: int, num_fake: int, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> tuple[Int[Tensor, "S A"], Int[Tensor, "S A"]]:
    """Rows of subsets without replacement, drawn as torch-fidelity does, which starts at 2020.

    A side with fewer rows than `size` makes all subsets as small as itself (clean-fid's rule).
    """
    size = min(size, num_real, num_fake)
    rng = np.random.RandomState(seed)  # the legacy generator is what torch-fidelity's values need
    pairs = [
        [rng.choice(count, size, replace=False) for count in (num_real, num_fake)]
        for _ in range(subsets)
    ]
    rows = torch.from_numpy(np.array(pairs, dtype=np.int64))
    return rows[:, 0], rows[:, 1]


def _means(a: Tensor, b: Tensor, is_same: bool = False) -> Float64[Tensor, " N"]:
    """Mean of the kernel of each row of `a` with all rows of `b`, itself left out if the same."""
    parts = []
    for begin, rows in _parts(a):
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for other, columns in _parts(b):
            kernel = (rows @ columns.T / a.shape[1] + 1) ** 3
            if is_same and begin == other:
                kernel.fill_diagonal_(0)
            total += kernel.sum(dim=1)
        parts.append(total)
    return torch.cat(parts) / (len(b) - is_same)


def _parts(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    for begin in range(0, len(rows), PART):
        yield begin, rows[begin : begin + PART].double()


def _check(real: Tensor, fake: Tensor) -> None:
    if min(len(real), len(fake)) < 2:
        raise DataError(f"{len(real)} and {len(fake)} rows; at least 2 are needed on each side")
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise DataError("features hold a value that is not finite")
