from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalegan.config.schema import Config, OptimConfig
from scalegan.errors import CheckpointError
from scalegan.runtime.files import MANIFEST, digest, read_json, write_json
from scalegan.train.checkpoint import (
    differences,
    find_newest,
    list_checkpoints,
    restore_checkpoint,
    save_checkpoint,
    state_tensors,
)
from scalegan.train.state import TrainState
from scalegan.train.step import train_step
from tests.support import tiny

NAMES = ["a", "b", "c"]


def trained(steps: int = 1, of: Config | None = None) -> TrainState:
    state = tiny.state(of)
    for _ in range(steps):
        train_step(state, [[tiny.batch()]])
    return state


def save_steps(folder: Path, *steps: int) -> list[Path]:
    state = trained()
    paths = []
    for state.step in steps:
        paths.append(save_checkpoint(folder, state, NAMES))
    return paths


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def assert_equal(a: TrainState, b: TrainState) -> None:
    first, second = state_tensors(a), state_tensors(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
        assert first[name].dtype == second[name].dtype, name


@pytest.mark.parametrize("steps", [0, 2])
def test_round_trip(tmp_path: Path, steps: int) -> None:
    state = trained(steps)
    state.attempt = 4
    path = save_checkpoint(tmp_path, state, NAMES)
    assert path == tmp_path / f"step-{steps:08d}"
    other = tiny.state()
    assert restore_checkpoint(path, other, NAMES) == {}
    assert_equal(state, other)
    assert (other.step, other.images_seen, other.attempt) == (steps, 4 * steps, 4)


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    save_steps(tmp_path, 5, 10, 100)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010", "step-00000100"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save_steps(tmp_path, 5, 10)
    state = trained(3)
    state.step = 10
    save_checkpoint(tmp_path, state, NAMES)
    other = tiny.state()
    restore_checkpoint(tmp_path / "step-00000010", other, NAMES)
    assert_equal(state, other)
    assert len(list_checkpoints(tmp_path)) == 2


def test_a_weight_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    state = trained()
    with torch.no_grad():
        state.average.heads[1].linear.bias[0] = float("nan")
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(tmp_path, state, NAMES)
    expected = "`average.heads.1.linear.bias` is not finite; no checkpoint is written of it"
    assert str(caught.value) == expected
    assert list(tmp_path.iterdir()) == []


def test_the_newest_sound_one_is_found_and_damaged_ones_are_named(tmp_path: Path) -> None:
    old, new = save_steps(tmp_path, 5, 10)
    said: list[str] = []
    assert find_newest(tmp_path, said.append) == new and said == []
    flip_a_bit(new / "average.safetensors")
    assert find_newest(tmp_path, said.append) == old
    problem = "`average.safetensors` does not match its digest"
    assert said == [f"passing over checkpoint `{new}`: {problem}"]


def test_no_checkpoint_and_only_damaged_ones(tmp_path: Path) -> None:
    assert find_newest(tmp_path / "none", print) is None
    for path in save_steps(tmp_path, 5, 10):
        (path / MANIFEST).unlink()
    with pytest.raises(CheckpointError) as caught:
        find_newest(tmp_path, lambda _: None)
    assert str(caught.value) == f"all 2 checkpoints in `{tmp_path}` are damaged"


def test_a_draft_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step-00000099.17.draft").mkdir()
    assert list_checkpoints(tmp_path) == []


def test_a_damaged_checkpoint_that_is_named_is_refused(tmp_path: Path) -> None:
    (path,) = save_steps(tmp_path, 5)
    flip_a_bit(path / "optimizer-generator.safetensors")
    state = tiny.state()
    before = {name: value.clone() for name, value in state_tensors(state).items()}
    with pytest.raises(CheckpointError) as caught:
        restore_checkpoint(path, state, NAMES)
    problem = "`optimizer-generator.safetensors` does not match its digest"
    assert str(caught.value) == f"checkpoint `{path}` is damaged: {problem}"
    assert all(torch.equal(value, before[name]) for name, value in state_tensors(state).items())


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^there is no checkpoint `"):
        restore_checkpoint(tmp_path / "step-00000001", tiny.state(), NAMES)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (tiny.config(model=replace(tiny.MODEL, width=32)), "`model.width` = 16, not 32"),
        (tiny.config(model=replace(tiny.MODEL, label_width=8)), "`model.label_width` = 12, not 8"),
        (tiny.config(seed=1), "`seed` = 0, not 1"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, of: Config, message: str) -> None:
    (path,) = save_steps(tmp_path, 5)
    with pytest.raises(CheckpointError) as caught:
        restore_checkpoint(path, tiny.state(of), NAMES)
    assert str(caught.value) == f"checkpoint `{path}` was made with {message}"


def test_other_classes_are_refused(tmp_path: Path) -> None:
    (path,) = save_steps(tmp_path, 5)
    with pytest.raises(
        CheckpointError, match=r"knows 3 classes that differ from the 3 of the data"
    ):
        restore_checkpoint(path, tiny.state(), ["a", "b", "d"])


def test_another_format_is_refused(tmp_path: Path) -> None:
    (path,) = save_steps(tmp_path, 5)
    write_json(path / "state.json", read_json(path / "state.json") | {"format": 1})
    manifest = read_json(path / MANIFEST) | {"state.json": digest(path / "state.json")}
    write_json(path / MANIFEST, manifest)
    with pytest.raises(CheckpointError, match=r"has format 1; this version reads 3$"):
        restore_checkpoint(path, tiny.state(), NAMES)


def test_changed_settings_are_told_and_rates_are_new(tmp_path: Path) -> None:
    (path,) = save_steps(tmp_path, 5)
    state = tiny.state(tiny.config(optim=OptimConfig(learning_rate=1e-5)))
    assert restore_checkpoint(path, state, NAMES) == {"optim.learning_rate": (2e-4, 1e-5)}
    rate = state.optimizers["generator"].param_groups[0]["lr"]
    assert rate == pytest.approx(1e-5 * 768 / 16)


def test_differences_are_dotted() -> None:
    then, now = tiny.config(), tiny.config(batch_size=8)
    assert differences(then, then) == {}
    assert differences(then, now) == {"train.batch_size": (4, 8)}
