import torch

from scalegan.metrics.precision_recall import density_coverage, precision_recall


def random(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_precision_and_recall_by_hand() -> None:
    """Real at 0, 1, 2, 3, 10; fake at 0.4 and 50, each of whose balls reaches the other."""
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    fake = torch.tensor([[0.4], [50.0]])
    assert precision_recall(real, fake, k=1) == (0.5, 1.0)
    assert precision_recall(fake, real, k=1) == (1.0, 0.5), "swapped sides swap the two"
    found = density_coverage(real, fake, k=1)
    assert found == (2 / 2, 2 / 5)  # 0.4 lies in the balls of 0 and 1


def test_a_collapsed_generator_is_precise_and_recalls_little() -> None:
    real = random(300)
    fake = real[:5].repeat(60, 1) + 0.01 * random(300, seed=1)
    precision, recall = precision_recall(real, fake)
    assert precision == 1 and recall < 0.1
    swapped = precision_recall(fake, real)
    assert swapped.precision < 0.1 and swapped.recall == 1
    density, coverage = density_coverage(real, fake)
    assert density > 0.5 and coverage < 0.2
