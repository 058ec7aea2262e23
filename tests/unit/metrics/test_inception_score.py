import math

import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.inception_score import inception_score


def test_inception_score_by_hand() -> None:
    sure = 100 * torch.eye(4).repeat(3, 1)
    assert inception_score(sure, splits=3) == pytest.approx((4, 0))
    assert inception_score(sure, splits=12) == pytest.approx((1, 0)), "one row has no diversity"
    assert inception_score(torch.zeros(6, 4), splits=2) == pytest.approx((1, 0))


def test_samples_sorted_by_class_score_low() -> None:
    logits = 100 * torch.eye(4).repeat_interleave(5, dim=0)
    assert inception_score(logits, splits=4).mean == pytest.approx(1)
    assert inception_score(logits, splits=1).mean == pytest.approx(4)


def test_inception_score_of_nothing() -> None:
    with pytest.raises(DataError, match="3 rows cannot be cut into 10 parts"):
        inception_score(torch.zeros(3, 2))
    with pytest.raises(DataError, match="not finite"):
        inception_score(torch.full((10, 2), math.nan))
