"""An autoencoder's training, killed or stopped, goes on to the bits of one that was not."""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalegan.cli import main
from scalegan.runtime.files import damage, read_json

OPTIONS = [
    *("--factor", "2", "--width", "8", "--batch-size", "8", "--adversarial", "0.1"),
    *("--duration", "90 steps", "--checkpoint", "10 steps"),
]


def arguments(out: Path) -> list[str]:
    return ["autoencoder", "train", "digits", "--out", str(out), *OPTIONS]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what an uninterrupted training leaves."""
    out = tmp_path_factory.mktemp("straight") / "out"
    go(out)
    return files(out)


def go(out: Path, *more: str, code: int = 0) -> tuple[str, str]:
    """The command in this process, which has diffusers already."""
    said, errors = io.StringIO(), io.StringIO()
    redirected = contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors)
    with redirected[0], redirected[1], pytest.raises(SystemExit) as stop:
        main([*arguments(out), *more])
    assert (stop.value.code or 0) == code, errors.getvalue()
    return said.getvalue(), errors.getvalue()


def files(out: Path) -> dict[str, str]:
    assert damage(out) is None
    found: dict[str, str] = read_json(out / "manifest.json")
    assert {path.name for path in out.iterdir()} == {*found, "manifest.json"}
    return found


def start(out: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "scalegan", *arguments(out)]
    # Sums are added up in another order on another number of threads.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_and_called_again(straight: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out)
    # Behind the middle, where the discriminator has a state too.
    wait_for((out / "checkpoints" / "step-00000060").is_dir, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    newest = max((out / "checkpoints").glob("step-*"))
    (newest / "network.safetensors").write_bytes(b"damaged")
    said, _ = go(out)
    assert f"passing over checkpoint `{newest}`" in said
    assert "going on from step " in said
    assert files(out) == straight


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_so(number: int, straight: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out)
    wait_for((out / "checkpoints" / "step-00000010").is_dir, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert f"of 90 by signal {number}; the same command goes on from here" in output
    assert go(out, "--kl", "0.1", code=2)[1].splitlines() == [
        f"error: `{out}` was begun with another `kl`: 1e-06, not 0.1",
        "hint: give the command it was begun with, or choose another --out",
    ]
    go(out)
    assert files(out) == straight


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment(seed: int, straight: dict[str, str], tmp_path: Path) -> None:
    rng, out = random.Random(seed), tmp_path / "out"
    process = start(out)
    wait_for((out / "checkpoints").is_dir, process)
    time.sleep(3 * rng.random())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not (out / "config.json").exists():
        go(out)
    assert files(out) == straight
