import json
from pathlib import Path

import pytest
import torch

from scalegan.errors import CheckpointError, DataError
from scalegan.features.judge import Judge, Trained, accuracy, fit_judge, load_judge, save_judge
from scalegan.interfaces import Images, Labels
from scalegan.settings import JudgeConfig

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
    judge = fit_judge(images, labels, NAMES)
    assert torch.equal(torch.get_rng_state(), before), "others' dice are left alone"
    assert judge.held_out_accuracy == 1
    assert accuracy(judge, images, labels) == 1
    assert accuracy(judge, images, 1 - labels) == 0
    assert not judge.network.training
    assert not any(p.requires_grad for p in judge.network.parameters())
    assert fit_judge(images, labels, NAMES).digest == judge.digest
    assert fit_judge(images, labels, NAMES, JudgeConfig(seed=1)).digest != judge.digest


def test_larger_pictures_are_shifted_and_mirrored_on_the_way() -> None:
    images, labels = dark_and_bright(60, 16)
    plain, flipped = (
        fit_judge(images, labels, NAMES, JudgeConfig(images=120, flip=flip))
        for flip in (False, True)
    )
    assert plain.digest != flipped.digest


@pytest.mark.parametrize("side", [4, 8, 32, 33, 64, 100, 256])
def test_it_takes_any_side(side: int) -> None:
    judge = Trained(Judge(3, side), ABOUT)
    seen = judge(torch.zeros(2, 3, side, side, dtype=torch.uint8))
    assert seen.pooled.shape == (2, 64)
    assert seen.logits is not None and seen.logits.shape == (2, 3)


def test_what_is_saved_is_read_back_and_damage_is_found(tmp_path: Path) -> None:
    images, labels = dark_and_bright(40)
    judge = fit_judge(images, labels, NAMES, JudgeConfig(images=40))
    path = tmp_path / "judge"
    save_judge(path, judge)
    again = load_judge(path)
    assert again.identity() == judge.identity()
    assert torch.equal(again(images).pooled, judge(images).pooled)
    assert json.loads((path / "judge.json").read_text())["digest"] == judge.digest
    with pytest.raises(CheckpointError, match="holds no judge"):
        load_judge(tmp_path)
    weights = path / "judge.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_judge(path)


@pytest.mark.parametrize(("count", "classes"), [(40, 1), (6, 2)])
def test_one_class_or_few_pictures_make_no_judge(count: int, classes: int) -> None:
    images, _ = dark_and_bright(count)
    with pytest.raises(DataError, match="two classes") as error:
        fit_judge(images, torch.arange(count) % classes, NAMES)
    assert "--features" in error.value.hint


def test_accuracy_counts() -> None:
    network = Judge(2, 8)
    torch.nn.init.zeros_(network.out.weight)
    with torch.no_grad():
        network.out.bias.copy_(torch.tensor([1.0, 0.0]))  # always the first class
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    assert accuracy(Trained(network, ABOUT), images, torch.tensor([0, 1, 0, 0])) == 0.75
