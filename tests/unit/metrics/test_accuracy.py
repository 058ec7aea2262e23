import math

import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.accuracy import top_k_accuracy


def test_accuracy_by_hand() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([0, 2, 0, 1])
    assert [top_k_accuracy(logits, labels, k) for k in (1, 2, 3)] == [0.25, 0.75, 1]
    with pytest.raises(DataError, match="not a number"):
        top_k_accuracy(logits * math.nan, labels)
    with pytest.raises(DataError, match=r"outside 0\.\.2"):
        top_k_accuracy(logits, labels + 1)
