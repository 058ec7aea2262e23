import math

import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.per_class import per_class_distances
from scalegan.metrics.statistics import moments


def random(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


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
    nothing = per_class_distances(real, real_labels, fake, fake_labels + 4, num_classes=9)
    assert math.isnan(nothing.mean) and nothing.missing == list(range(9))
    with pytest.raises(DataError, match=r"a label is outside 0\.\.2"):
        per_class_distances(real, real_labels, fake, fake_labels, num_classes=3)
