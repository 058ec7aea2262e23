import json
from pathlib import Path

import pytest
import torch

from scalegan.config.auxiliary import ClassifierConfig
from scalegan.errors import CheckpointError, DataError
from scalegan.features.classifier import (
    Classifier,
    TrainedClassifier,
    accuracy,
    fit_classifier,
    load_classifier,
    save_classifier,
)
from scalegan.interfaces import Images, Labels

NAMES = ["dark", "bright"]
ABOUT = {"class_names": NAMES, "held_out_accuracy": 1.0, "side": 8, "format": 1}


def dark_and_bright(count: int = 120, side: int = 8) -> tuple[Images, Labels]:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, 3, side, side), generator=rng)
    return (noise + 150 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def test_it_learns_what_is_easy_and_repeats_itself() -> None:
    images, labels = dark_and_bright()
    before = torch.get_rng_state()
    classifier = fit_classifier(images, labels, NAMES)
    assert torch.equal(torch.get_rng_state(), before), "PyTorch's own generator is left alone"
    assert classifier.held_out_accuracy == 1
    assert accuracy(classifier, images, labels) == 1
    assert accuracy(classifier, images, 1 - labels) == 0
    assert not classifier.network.training
    assert not any(p.requires_grad for p in classifier.network.parameters())
    assert fit_classifier(images, labels, NAMES).digest == classifier.digest
    assert (
        fit_classifier(images, labels, NAMES, ClassifierConfig(seed=1)).digest != classifier.digest
    )


def test_larger_images_are_shifted_and_mirrored_on_the_way() -> None:
    images, labels = dark_and_bright(60, 16)
    plain, flipped = (
        fit_classifier(images, labels, NAMES, ClassifierConfig(images_seen=120, flip=flip))
        for flip in (False, True)
    )
    assert plain.digest != flipped.digest


@pytest.mark.parametrize("side", [4, 8, 32, 33, 64, 100, 256])
def test_it_takes_any_side(side: int) -> None:
    classifier = TrainedClassifier(Classifier(3, side), ABOUT)
    seen = classifier(torch.zeros(2, 3, side, side, dtype=torch.uint8))
    assert seen.pooled.shape == (2, 64)
    assert seen.logits is not None and seen.logits.shape == (2, 3)


def test_what_is_saved_is_read_back_and_damage_is_found(tmp_path: Path) -> None:
    images, labels = dark_and_bright(40)
    classifier = fit_classifier(images, labels, NAMES, ClassifierConfig(images_seen=40))
    path = tmp_path / "classifier"
    save_classifier(path, classifier)
    again = load_classifier(path)
    assert again.identity() == classifier.identity()
    assert torch.equal(again(images).pooled, classifier(images).pooled)
    assert json.loads((path / "classifier.json").read_text())["digest"] == classifier.digest
    with pytest.raises(CheckpointError, match="holds no classifier"):
        load_classifier(tmp_path)
    weights = path / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_classifier(path)


@pytest.mark.parametrize(("count", "classes"), [(40, 1), (6, 2)])
def test_one_class_or_few_images_make_no_classifier(count: int, classes: int) -> None:
    images, _ = dark_and_bright(count)
    with pytest.raises(DataError, match="two classes") as error:
        fit_classifier(images, torch.arange(count) % classes, NAMES)
    assert "--features" in error.value.hint


def test_accuracy_counts() -> None:
    network = Classifier(2, 8)
    torch.nn.init.zeros_(network.out.weight)
    with torch.no_grad():
        network.out.bias.copy_(torch.tensor([1.0, 0.0]))  # always the first class
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    assert accuracy(TrainedClassifier(network, ABOUT), images, torch.tensor([0, 1, 0, 0])) == 0.75
