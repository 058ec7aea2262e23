"""An autoencoder's training, killed or stopped, goes on to the bits of one that was not."""

import contextlib
import io
import random
import signal
import time
from pathlib import Path

import pytest

from scalegan.cli import main
from scalegan.runtime.files import damage, read_json
from tests.support.fork_server import Child, ForkServer

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


def start(server: ForkServer, out: Path) -> Child:
    server.preload("scalegan.train.autoencoder", "diffusers.models.autoencoders.autoencoder_kl")
    (child,) = server.start(arguments(out))
    return child


def test_killed_and_called_again(
    straight: dict[str, str], server: ForkServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    child = start(server, out)
    # Behind the middle, where the discriminator has a state too.
    assert child.until((out / "checkpoints" / "step-00000060").is_dir), child.text
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    newest = max((out / "checkpoints").glob("step-*"))
    (newest / "network.safetensors").write_bytes(b"damaged")
    said, _ = go(out)
    assert f"passing over checkpoint `{newest}`" in said
    assert "going on from step " in said
    assert files(out) == straight


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_so(
    number: int, straight: dict[str, str], server: ForkServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    child = start(server, out)
    assert child.until((out / "checkpoints" / "step-00000010").is_dir), child.text
    child.send(number)
    assert child.wait(60) == 128 + number, child.text
    assert f"of 90 by signal {number}; the same command goes on from here" in child.text
    assert go(out, "--kl", "0.1", code=2)[1].splitlines() == [
        f"error: `{out}` was begun with another `kl`: 1e-06, not 0.1",
        "hint: give the command it was begun with, or choose another --out",
    ]
    go(out)
    assert files(out) == straight


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment(
    seed: int, straight: dict[str, str], server: ForkServer, tmp_path: Path
) -> None:
    rng, out = random.Random(seed), tmp_path / "out"
    child = start(server, out)
    assert child.until((out / "checkpoints").is_dir), child.text
    time.sleep(3 * rng.random())
    child.send(signal.SIGKILL)
    child.wait()
    if not (out / "config.json").exists():
        go(out)
    assert files(out) == straight
