"""Kernel Inception Distance, KID (Binkowski et al., arXiv 1801.01401).

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


class SubsetScore(NamedTuple):
    """Over subsets: mean, population standard deviation, and standard error of the mean.

    The deviation is that of one subset's value. The error takes subsets for independent; they
    share rows, so that it is too small where subsets are many and rows few.
    """

    mean: float
    std: float
    standard_error: float


def kernel_distance(
    real: Float[Tensor, "N E"],
    fake: Float[Tensor, "M E"],
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> SubsetScore:
    """KID by its published protocol: the mean over random subsets.

    Args:
        real, fake: features, at least two rows each.
        subsets: their number.
        size: rows of each side in a subset.
        seed: of the choice of rows; torch-fidelity's is 2020.

    Raises:
        DataError: if a side has fewer than two rows or a value is not finite.
    """
    rows = draw_subsets(len(real), len(fake), subsets, size, seed)
    return kernel_distance_of_subsets(real, fake, *rows)


# k(x, y) = (x.y / E + 1)^3;  MMD^2 = mean over i != j of k(r_i, r_j) + mean over i != j of
# k(f_i, f_j) - 2 mean of k(r_i, f_j), which is unbiased (Gretton et al. 2012, lemma 6).
def kernel_distance_of_subsets(
    real: Float[Tensor, "N E"],
    fake: Float[Tensor, "M E"],
    rows_real: Int[Tensor, "S A"],
    rows_fake: Int[Tensor, "S B"],
) -> SubsetScore:
    """The squared maximum mean discrepancy of given subsets, one per line of the tables."""
    if min(len(real), len(fake)) < 2:
        raise DataError(f"{len(real)} and {len(fake)} rows; at least 2 are needed on each side")
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise DataError("features hold a value that is not finite")
    values = []
    for mine, theirs in zip(rows_real.long(), rows_fake.long(), strict=True):
        a, b = real[mine], fake[theirs]
        within = _mean_kernel(a, a, is_same=True) + _mean_kernel(b, b, is_same=True)
        values.append(within - 2 * _mean_kernel(a, b))
    all_values = torch.stack(values)
    std = all_values.std(correction=0).item()
    error = std / (len(values) - 1) ** 0.5 if len(values) > 1 else float("nan")
    return SubsetScore(all_values.mean().item(), std, error)


def draw_subsets(
    num_real: int, num_fake: int, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> tuple[Int[Tensor, "S A"], Int[Tensor, "S A"]]:
    """Rows of subsets without replacement, drawn as torch-fidelity draws them.

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


def _mean_kernel(a: Tensor, b: Tensor, is_same: bool = False) -> Float64[Tensor, ""]:
    """Mean of the kernel over all pairs of rows, without those of a row with itself if same."""
    sums = []
    for begin, rows in _parts(a):
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for other, columns in _parts(b):
            kernel = (rows @ columns.T / a.shape[1] + 1) ** 3
            if is_same and begin == other:
                kernel.fill_diagonal_(0)
            total += kernel.sum(dim=1)
        sums.append(total)
    return (torch.cat(sums) / (len(b) - is_same)).mean()


def _parts(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    for begin in range(0, len(rows), PART):
        yield begin, rows[begin : begin + PART].double()
