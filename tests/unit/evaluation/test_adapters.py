import pytest
import torch

from scalegan.evaluation import adapters
from scalegan.metrics.inception_score import inception_score
from scalegan.metrics.statistics import moments


def bank(count: int, seed: int, shift: float = 0) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_score_does_not_see_the_order_of_classes() -> None:
    logits = 9 * torch.eye(10).repeat_interleave(50, 0)  # sorted by class: each part sees one
    assert inception_score(logits).mean == pytest.approx(1)
    assert adapters.inception_score(logits, seed=0).mean > 5
    assert adapters.inception_score(logits, 0) == adapters.inception_score(logits, 0)


def test_infinity_is_below_the_biased_distance() -> None:
    real = moments(bank(4000, 0))
    found = adapters.distance_infinity(real, bank(500, 1), seed=0)
    assert found.value < found.distances[-1] < found.distances[0]


def test_the_classification_score_is_of_a_classifier_that_saw_samples_alone() -> None:
    seen = []

    class Verdict:
        def __init__(self, images: torch.Tensor) -> None:
            self.logits = torch.stack([255 - images[:, 0, 0, 0], images[:, 0, 0, 0]], 1).float()

    def fit(images: torch.Tensor, labels: torch.Tensor, names: list[str]) -> type[Verdict]:
        seen.append((len(images), names))
        return Verdict

    values = torch.tensor([0, 0, 255, 255], dtype=torch.uint8)
    real = values.view(4, 1, 1, 1).expand(-1, 3, 4, 4)
    labels = torch.tensor([0, 1, 1, 1])
    fake = torch.zeros(7, 3, 4, 4, dtype=torch.uint8)
    found = adapters.classification_accuracy_score(
        fit, real, labels, fake, torch.zeros(7).long(), 2
    )
    assert found == 0.75 and seen == [(7, ["0", "1"])]
