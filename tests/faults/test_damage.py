"""Flipped bits, cut files, full disks: found and named, and the last valid checkpoint used."""

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scalegan.errors import CheckpointError
from scalegan.runtime import files
from scalegan.runtime.files import MANIFEST, Faults, damage
from scalegan.train import checkpoint
from tests.faults.test_kills import POINTS
from tests.support import tiny
from tests.support.fork_server import ForkServer
from tests.support.runs import SmallRuns, hashes, newest_valid

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, of steps 5 and 10."""
    folder, state = tmp_path_factory.mktemp("checkpoints"), tiny.state()
    for state.step in (5, 10):
        checkpoint.save_checkpoint(folder, state, NAMES)
    return folder


def flip(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def count_found(folder: Path, spoil: Callable[[bytes, random.Random], bytes], cases: int) -> int:
    """Of so many damages to the newest checkpoint, how many are found, told and passed over."""
    newest, found = folder / "step-00000010", 0
    files = sorted(newest.iterdir())
    state = tiny.state()
    for seed in range(cases):
        rng, told = random.Random(seed), list[str]()
        file = files[seed % len(files)]
        content = file.read_bytes()
        file.write_bytes(spoil(content, rng))
        used = checkpoint.find_newest(folder, told.append)
        is_refused = False
        try:
            checkpoint.restore_checkpoint(newest, state, NAMES)
        except CheckpointError as error:
            is_named = file.name in str(error) or file.name == MANIFEST
            is_refused = "is damaged" in str(error) and is_named
        file.write_bytes(content)
        is_told = len(told) == 1 and "passing over" in told[0]
        found += used == folder / "step-00000005" and is_told and is_refused
    return found


@pytest.mark.parametrize(("spoil", "cases"), [(flip, 300), (cut, 100)])
def test_all_damage_is_found(spoil: Callable, cases: int, folder: Path) -> None:
    assert count_found(folder, spoil, cases) == cases


def test_control_trusting_what_can_be_parsed_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support import injected_faults

    for module in (checkpoint, files):
        monkeypatch.setattr(module, "damage", module.damage)  # put back afterwards
    injected_faults.break_digests()
    assert count_found(folder, flip, 20) < 20


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("point", POINTS[: POINTS.index("renamed")])
def test_a_disk_that_refuses_leaves_what_was_there(
    point: str, number: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        if name == point:
            raise OSError(number, os.strerror(number), "checkpoint")

    shutil.copytree(folder, tmp_path / "checkpoints")
    monkeypatch.setattr(Faults, "strike", staticmethod(refuse))
    state = tiny.state()
    state.step = 15
    with pytest.raises(OSError, match=os.strerror(number)):
        checkpoint.save_checkpoint(tmp_path / "checkpoints", state, NAMES)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step-00000005", "step-00000010"]
    assert all(damage(tmp_path / "checkpoints" / name) is None for name in left)


@pytest.mark.parametrize("number", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.slow)])
def test_a_run_on_a_disk_that_refuses_ends_with_a_sentence(
    number: int, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    server.run(small.arguments(tmp_path, 4, "2 steps"))
    faults = [("fail_at", "average written", 1, number)]
    (said,) = server.run(small.arguments(tmp_path, 8, "2 steps"), 1, faults, code=2)
    assert f"error: `checkpoint`: {os.strerror(number)}" in said and "Traceback" not in said
    assert newest_valid(tmp_path) == 4
    server.run(small.arguments(tmp_path, 8, "2 steps"))
    assert hashes(tmp_path, 8)


@pytest.mark.slow
def test_control_saving_in_place_loses_what_was_there(
    server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    server.run(small.arguments(tmp_path, 4, "2 steps"))
    faults = [("break_saving",), ("fail_at", "average written", 1)]
    server.run(small.arguments(tmp_path, 8, "2 steps"), 1, faults, code=2)
    assert newest_valid(tmp_path) == -1


def test_two_valid_ones_are_kept_beside_a_damaged_one(folder: Path, tmp_path: Path) -> None:
    there, state = tmp_path / "checkpoints", tiny.state()
    shutil.copytree(folder, there)
    (there / "step-00000010" / "state.json").write_text("{}")
    for step in (15, 20):
        state.step = step
        checkpoint.save_checkpoint(there, state, NAMES)
        valid = [p.name for p in checkpoint.list_checkpoints(there) if damage(p) is None]
        assert len(valid) == 2 and valid[-1] == f"step-{step:08d}"


def test_later_ones_are_set_aside(folder: Path, tmp_path: Path) -> None:
    there, told = tmp_path / "checkpoints", list[str]()
    shutil.copytree(folder, there)
    checkpoint.set_aside(there, 5, told.append)
    assert [path.name for path in checkpoint.list_checkpoints(there)] == ["step-00000005"]
    (aside,) = there.glob("aside-step-00000010-*")
    assert damage(aside) is None and "step-00000010` is later than" in told[0]
