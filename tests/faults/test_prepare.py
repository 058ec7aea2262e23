"""Preparation killed at any moment and called again gives the bytes of one that was not."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.fork_server import Child, ForkServer
from tests.support.runs import scalegan
from tests.unit.data.test_prepare import digests

OPTIONS = ["--size", "24", "--shard-rows", "40", "--mirror", "--keep-images"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """900 images: about a second of work in 45 shards, by one process."""
    path = tmp_path_factory.mktemp("source") / "data.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (900, 60, 50, 3), dtype=np.uint8)
    np.savez(path, pixels, np.arange(900) % 7)
    return f"npz:{path}"


@pytest.fixture(scope="module")
def straight(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of an uninterrupted preparation."""
    out = tmp_path_factory.mktemp("straight") / "out"
    scalegan("prepare", source, str(out), *OPTIONS, "--workers", "1")
    found = digests(out)
    assert len(found) == 45 * 7 + 2
    return found


def start(server: ForkServer, source: str, out: Path, workers: int) -> Child:
    (child,) = server.start(["prepare", source, str(out), *OPTIONS, "--workers", str(workers)])
    return child


def shards_of(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("shard-*"))


def kill_after(child: Child, out: Path, shards: int, seconds: float) -> None:
    """SIGKILL once so many shards are complete, and a little later still."""
    assert child.until(lambda: len(shards_of(out)) >= shards), child.text
    time.sleep(seconds)
    child.send(signal.SIGKILL)
    child.wait()


def finish(source: str, out: Path, workers: int, straight: dict[str, str]) -> None:
    kept = {path: path.stat().st_mtime_ns for path in out.glob("shard-*/manifest.json")}
    done = scalegan("prepare", source, str(out), *OPTIONS, "--workers", str(workers))
    assert digests(out) == straight
    # What was complete was kept, not made again.
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert not kept or f"{len(kept)} complete shards are kept" in done.stdout or len(kept) == 45


@pytest.mark.parametrize(("shards", "workers"), [(0, 1), (7, 1), (30, 2)])
def test_killed_and_called_again(
    shards: int,
    workers: int,
    server: ForkServer,
    source: str,
    straight: dict[str, str],
    tmp_path: Path,
) -> None:
    child = start(server, source, tmp_path / "out", workers)
    kill_after(child, tmp_path / "out", shards, seconds=0.003)
    assert len(shards_of(tmp_path / "out")) < 45
    finish(source, tmp_path / "out", 1, straight)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment(
    seed: int, server: ForkServer, source: str, straight: dict[str, str], tmp_path: Path
) -> None:
    rng, out = random.Random(seed), tmp_path / "out"
    for _ in range(rng.randint(1, 2)):  # sometimes killed twice
        child = start(server, source, out, rng.randint(1, 3))
        before = len(shards_of(out))
        kill_after(child, out, min(45, before + rng.randint(0, 20)), 0.1 * rng.random())
    finish(source, out, rng.randint(1, 3), straight)


def test_a_full_disk_leaves_the_complete_shards(
    source: str, straight: dict[str, str], tmp_path: Path
) -> None:
    # A limit on file size fails a write just as a full disk does, without privileges. Shard 40 and
    # all others are below it; a shard of twice as many rows is not.
    command = f"ulimit -f 50; trap '' XFSZ; exec {sys.executable} -m scalegan \"$@\""
    arguments = ["prepare", source, str(tmp_path / "out"), *OPTIONS, "--workers", "1"]
    done = subprocess.run(
        ["bash", "-c", command, "bash", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob(".*"))
    finish(source, tmp_path / "out", 1, straight)


def test_ctrl_c_keeps_the_complete_shards(
    server: ForkServer, source: str, straight: dict[str, str], tmp_path: Path
) -> None:
    child = start(server, source, tmp_path / "out", 1)
    assert child.until(lambda: len(shards_of(tmp_path / "out")) >= 3), child.text
    child.send(signal.SIGINT)
    assert child.wait(60) == 130 and "Traceback" not in child.text
    assert not list((tmp_path / "out").glob(".*.draft*"))
    finish(source, tmp_path / "out", 1, straight)
