import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.diversity import diversity


def test_diversity_by_hand() -> None:
    assert diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)
    assert diversity(torch.ones(4, 3)) == 0
    with pytest.raises(DataError, match="1 rows have no distance"):
        diversity(torch.ones(1, 3))
