"""Runs that are stopped or killed go on to the same bits; damage is found and named."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import scalegan as package
from tests.support.fork_server import Child, ForkServer
from tests.support.runs import hashes, last_step, train, train_arguments

EVERY = ["--every.checkpoint", "10 steps", "--every.samples", "15 steps"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "straight"
    train(run, 40, *EVERY)
    return run


def start(server: ForkServer, run: Path, steps: int) -> Child:
    (child,) = server.start([*train_arguments(run, steps), *EVERY])
    return child


def test_killed_and_resumed_equals_straight(
    straight: Path, server: ForkServer, tmp_path: Path
) -> None:
    child = start(server, tmp_path, 40)
    assert child.until((tmp_path / "checkpoints" / "step-00000020").is_dir), child.text
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "checkpoints" / "step-00000040").exists()
    done = train(tmp_path, 40, *EVERY)
    assert "resuming" in done.stdout
    assert hashes(tmp_path, 40) == hashes(straight, 40)
    # Lines that the killed process wrote after its checkpoint are made again, not twice.
    record, expected = (run / "metrics.jsonl" for run in (tmp_path, straight))
    assert record.read_text() == expected.read_text()


def test_another_seed_gives_other_hashes(straight: Path, tmp_path: Path) -> None:
    train(tmp_path, 10, *EVERY, "--seed", "1")
    other = hashes(tmp_path, 10)
    assert other["generator.safetensors"] != hashes(straight, 40)["generator.safetensors"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_says_so(
    straight: Path, server: ForkServer, tmp_path: Path, number: int
) -> None:
    child = start(server, tmp_path, 40)
    assert child.until(lambda: last_step(tmp_path) > 0), child.text
    child.send(number)
    code = child.wait(60)
    if code == 0:
        pytest.skip("the run was over before the signal came")
    assert code == 128 + number
    assert f"by signal {number}; the same command goes on from here" in child.text
    train(tmp_path, 40, *EVERY)
    assert hashes(tmp_path, 40) == hashes(straight, 40)


def test_a_flipped_bit_is_found_and_the_older_checkpoint_used(
    straight: Path, tmp_path: Path
) -> None:
    train(tmp_path, 20, *EVERY)
    path = tmp_path / "checkpoints" / "step-00000020" / "average.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    done = train(tmp_path, 40, *EVERY)
    assert "passing over checkpoint" in done.stdout
    assert "`average.safetensors` does not match its digest" in done.stdout
    assert "step-00000010` at step 10" in done.stdout.replace("\n", "")
    assert hashes(tmp_path, 40) == hashes(straight, 40)


def test_a_damaged_checkpoint_that_the_user_names_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 2)
    path = tmp_path / "checkpoints" / "step-00000002"
    (path / "state.json").unlink()
    done = train(tmp_path, 4, "--resume", str(path), check=False)
    assert done.returncode == 2
    assert "is damaged: `state.json` is missing" in done.stderr


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, 2)
    # A limit on file size fails a write just as a full disk does, without privileges.
    command = f"ulimit -f 100; trap '' XFSZ; exec {sys.executable} -m scalegan \"$@\""
    arguments = train_arguments(tmp_path, 4)
    done = subprocess.run(
        ["bash", "-c", command, "bash", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert names == ["step-00000002"]
    assert package.load(tmp_path).card.step == 2


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_moment_never_without_a_valid_checkpoint(
    server: ForkServer, tmp_path: Path, seed: int
) -> None:
    train(tmp_path, 2, "--every.checkpoint", "1 step")
    child = start(server, tmp_path, 400)
    time.sleep(4 * random.Random(seed).random())
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, child.text
    assert package.load(tmp_path).card.step >= 2
    step = max(int(path.name[5:]) for path in (tmp_path / "checkpoints").glob("step-*"))
    train(tmp_path, step + 2)
