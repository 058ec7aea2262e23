"""Inception Score, kernel distance, distances per class, accuracy, diversity."""

import math

import numpy as np
import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.accuracy import top_k_accuracy
from scalegan.metrics.diversity import diversity
from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.inception_score import inception_score, inception_score_of_chunks
from scalegan.metrics.kernel import (
    PART,
    draw_rows,
    kernel_distance,
    kernel_distance_subsets,
    kernel_estimate,
)
from scalegan.metrics.per_class import per_class_distances
from scalegan.metrics.statistics import moments


def random(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_inception_score_by_hand() -> None:
    sure = 100 * torch.eye(4).repeat(3, 1)
    assert inception_score(sure, splits=3) == pytest.approx((4, 0))
    assert inception_score(sure, splits=12) == pytest.approx((1, 0)), "one row has no diversity"
    assert inception_score(torch.zeros(6, 4), splits=2) == pytest.approx((1, 0))
    assert inception_score_of_chunks(sure, chunk=8) == pytest.approx((4, 0))


def test_samples_sorted_by_class_score_low() -> None:
    logits = 100 * torch.eye(4).repeat_interleave(5, dim=0)
    assert inception_score(logits, splits=4).mean == pytest.approx(1)
    assert inception_score(logits, splits=1).mean == pytest.approx(4)


def test_inception_score_of_nothing() -> None:
    with pytest.raises(DataError, match="3 rows cannot be cut into 10 parts"):
        inception_score(torch.zeros(3, 2))
    with pytest.raises(DataError, match="not finite"):
        inception_score(torch.full((10, 2), math.nan))


def brute_kernel(a: torch.Tensor, b: torch.Tensor) -> float:
    k = [((x.double() @ y.double().T) / 5 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    n, m = len(a), len(b)
    within = (k[0].sum() - k[0].trace()) / (n * (n - 1)) + (k[1].sum() - k[1].trace()) / (
        m * (m - 1)
    )
    return float(within - 2 * k[2].mean())


def test_kernel_distance_by_brute_force() -> None:
    a, b = random(PART + 30), random(70, seed=1) + 0.3
    assert kernel_distance(a, b) == pytest.approx(brute_kernel(a, b), rel=1e-10)
    rows = draw_rows(len(a), len(b), subsets=3, size=20, seed=1)
    values = [brute_kernel(a[i], b[j]) for i, j in zip(*rows, strict=True)]
    score = kernel_distance_subsets(a, b, *rows)
    assert score.mean == pytest.approx(np.mean(values))
    assert score.std == pytest.approx(np.std(values))
    assert score.standard_error == pytest.approx(np.std(values, ddof=1) / 3**0.5)


def test_rows_of_subsets_are_distinct_and_small_sides_rule() -> None:
    mine, theirs = draw_rows(30, 12, subsets=4, size=20)
    assert mine.shape == theirs.shape == (4, 12)
    assert all(len(set(row.tolist())) == 12 for row in mine)
    assert mine.max() < 30 and theirs.max() < 12


def test_the_standard_error_is_the_spread_of_repeats() -> None:
    draws = [(random(150, seed=2 * i), random(150, seed=2 * i + 1) + 0.4) for i in range(60)]
    estimates = [kernel_estimate(*draw) for draw in draws]
    spread = np.std([estimate.value for estimate in estimates], ddof=1)
    assert np.mean([e.standard_error for e in estimates]) == pytest.approx(spread, rel=0.25)


def test_classes_without_samples_are_named() -> None:
    real, fake = random(60), random(50, seed=1) + 0.5
    real_labels = torch.arange(60) % 4
    fake_labels = torch.tensor([0] * 30 + [1] * 19 + [3])
    found = per_class_distances(real, real_labels, fake, fake_labels, num_classes=5)
    assert found.missing == [2, 3, 4], "one sample has no covariance; 4 is on neither side"
    assert found.fake_counts == [30, 19, 0, 1, 0] and found.real_counts == [15, 15, 15, 15, 0]
    expected = [
        frechet_distance(moments(real[real_labels == k]), moments(fake[fake_labels == k]))
        for k in (0, 1)
    ]
    assert [found.distances[k] for k in (0, 1)] == pytest.approx(expected)
    assert found.mean == pytest.approx(sum(expected) / 2)
    assert found.worst(1) == [expected.index(max(expected))]
    nothing = per_class_distances(real, real_labels, fake, fake_labels + 4, num_classes=9)
    assert math.isnan(nothing.mean) and nothing.missing == list(range(9))
    with pytest.raises(DataError, match=r"a label is outside 0\.\.2"):
        per_class_distances(real, real_labels, fake, fake_labels, num_classes=3)


def test_accuracy_by_hand() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([0, 2, 0, 1])
    assert [top_k_accuracy(logits, labels, k) for k in (1, 2, 3)] == [0.25, 0.75, 1]
    with pytest.raises(DataError, match="not a number"):
        top_k_accuracy(logits * math.nan, labels)
    with pytest.raises(DataError, match=r"outside 0\.\.2"):
        top_k_accuracy(logits, labels + 1)


def test_diversity_by_hand() -> None:
    assert diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)
    assert diversity(torch.ones(4, 3)) == 0
    with pytest.raises(DataError, match="1 rows have no distance"):
        diversity(torch.ones(1, 3))
