import torch

from scalegan.evaluation.classifier import classification_accuracy_score


def test_the_classification_score_is_of_a_classifier_that_saw_samples_alone() -> None:
    fitted = []

    class Predicted:
        def __init__(self, images: torch.Tensor) -> None:
            self.logits = torch.stack([255 - images[:, 0, 0, 0], images[:, 0, 0, 0]], 1).float()

    def fit(images: torch.Tensor, labels: torch.Tensor, names: list[str]) -> type[Predicted]:
        fitted.append((len(images), names))
        return Predicted

    values = torch.tensor([0, 0, 255, 255], dtype=torch.uint8)
    real = values.view(4, 1, 1, 1).expand(-1, 3, 4, 4)
    labels = torch.tensor([0, 1, 1, 1])
    fake = torch.zeros(7, 3, 4, 4, dtype=torch.uint8)
    found = classification_accuracy_score(fit, real, labels, fake, torch.zeros(7).long(), 2)
    assert found == 0.75 and fitted == [(7, ["0", "1"])]
