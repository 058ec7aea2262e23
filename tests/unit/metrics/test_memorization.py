import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.memorization import authenticity_percent, copies, nearest_ratio


def random(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_authenticity_by_hand() -> None:
    """Training at 0, 1, 5: next to 0 a sample is authentic beyond 1, next to 5 beyond 4."""
    training = torch.tensor([[0.0], [1.0], [5.0]])
    fake = torch.tensor([[-1.5], [-0.5], [8.9], [9.1]])
    assert authenticity_percent(training, fake) == 50


def test_samples_around_few_training_images_are_not_authentic() -> None:
    real = random(300)
    assert authenticity_percent(real, real[:5].repeat(60, 1) + 0.01 * random(300, seed=1)) == 0


def test_copies_of_real_rows_are_near() -> None:
    real = random(200, 4)
    assert nearest_ratio(real, random(200, 4, seed=1)) == pytest.approx(1, abs=0.2)
    assert nearest_ratio(real, real + 1e-4) < 0.01


def test_copies_are_counted() -> None:
    known, drawn = torch.tensor([1, 2, 3]), torch.tensor([3, 3, 4, 5])
    assert copies(known, drawn) == (0.5, 0.25)
    assert copies(known, known) == (1, 0)
    with pytest.raises(DataError, match="no samples"):
        copies(known, known[:0])
