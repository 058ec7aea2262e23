import math

import numpy as np
import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.kernel import (
    PART,
    draw_subsets,
    kernel_distance,
    kernel_distance_of_subsets,
)


def random(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def brute_kernel(a: torch.Tensor, b: torch.Tensor) -> float:
    k = [((x.double() @ y.double().T) / 5 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    n, m = len(a), len(b)
    within = (k[0].sum() - k[0].trace()) / (n * (n - 1)) + (k[1].sum() - k[1].trace()) / (
        m * (m - 1)
    )
    return float(within - 2 * k[2].mean())


def test_kernel_distance_by_brute_force() -> None:
    a, b = random(PART + 30), random(70, seed=1) + 0.3
    whole = (torch.arange(len(side))[None] for side in (a, b))
    score = kernel_distance_of_subsets(a, b, *whole)
    assert score.mean == pytest.approx(brute_kernel(a, b), rel=1e-10)
    assert score.std == 0 and math.isnan(score.standard_error)
    rows = draw_subsets(len(a), len(b), subsets=3, size=20, seed=1)
    values = [brute_kernel(a[i], b[j]) for i, j in zip(*rows, strict=True)]
    score = kernel_distance(a, b, subsets=3, size=20, seed=1)
    assert score == kernel_distance_of_subsets(a, b, *rows)
    assert score.mean == pytest.approx(np.mean(values))
    assert score.std == pytest.approx(np.std(values))
    assert score.standard_error == pytest.approx(np.std(values, ddof=1) / 3**0.5)


def test_rows_of_subsets_are_distinct_and_small_sides_rule() -> None:
    mine, theirs = draw_subsets(30, 12, subsets=4, size=20)
    assert mine.shape == theirs.shape == (4, 12)
    assert all(len(set(row.tolist())) == 12 for row in mine)
    assert mine.max() < 30 and theirs.max() < 12


def test_random_subsets_agree_with_all_rows() -> None:
    real, fake = random(300, 4), random(300, 4, seed=1) + 0.5
    found = kernel_distance(real, fake, subsets=50, size=100)
    whole = torch.arange(300)[None]
    assert found.mean == pytest.approx(
        kernel_distance_of_subsets(real, fake, whole, whole).mean, rel=0.2
    )
    assert found.standard_error < found.std


def test_the_estimate_has_no_bias() -> None:
    """Two samples of one distribution: the mean of many estimates is near zero on both sides."""
    whole = torch.arange(20)[None]
    values = [
        kernel_distance_of_subsets(random(20, seed=2 * i), random(20, seed=2 * i + 1), whole, whole)
        for i in range(200)
    ]
    means = np.array([value.mean for value in values])
    assert abs(means.mean()) < 3 * means.std() / len(means) ** 0.5
    assert (means < 0).any()


def test_kernel_distance_of_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="1 and 5 rows; at least 2"):
        kernel_distance(random(1), random(5))
    with pytest.raises(DataError, match="not finite"):
        kernel_distance(random(5), random(5) * math.nan)
