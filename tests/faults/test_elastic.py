"""Workers killed under elastic torchrun; checkpoints that go on with another number of ranks."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalegan.runtime.files import load_tensors
from tests.support.fork_server import ONE_THREAD, ForkServer, free_port
from tests.support.runs import SmallRuns, hashes, last_step

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 60, "5 steps"


def workers(run: Path) -> dict[int, int]:
    """Process of each rank, by its heartbeat."""
    found = {}
    for path in sorted((run / "heartbeats").glob("rank-*.json")):
        beat = json.loads(path.read_text())
        found[int(path.stem[5:])] = beat["pid"]
    return found


def starts(run: Path) -> int:
    path = run / "environment.json"
    return len(json.loads(path.read_text())) if path.is_file() else 0


def elastic(arguments: list[str], out: Path, restarts: int) -> "subprocess.Popen[bytes]":
    env = {"PYTHON": sys.executable, "RDZV_ENDPOINT": f"127.0.0.1:{free_port()}"}
    env |= {"MAX_RESTARTS": str(restarts), "RDZV_ID": out.stem, **ONE_THREAD}
    script = str(ROOT / "examples" / "elastic" / "train.sh")
    with out.open("wb") as file:
        return subprocess.Popen(
            [script, *arguments], env=os.environ | env, stdout=file, stderr=file
        )


def wait_until(
    condition: Callable[[], bool], process: "subprocess.Popen[bytes]", out: Path
) -> None:
    deadline = time.monotonic() + 400
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, out.read_text()[-3000:]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def straight(
    server: ForkServer, small: SmallRuns, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    run = tmp_path_factory.mktemp("straight")
    server.run(small.arguments(run, STEPS, EVERY), 2)
    return hashes(run, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_killed_worker_is_started_again(
    seed: int,
    straight: dict[str, str],
    small: SmallRuns,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    rng, run, out = random.Random(seed), tmp_path / "run", tmp_path / f"{seed}.log"
    arguments = [*small.arguments(run, STEPS, EVERY)[1:], "--device", "cpu"]
    process = elastic(arguments, out, restarts=3)
    request.addfinalizer(lambda: process.terminate() or process.wait(60))  # and its workers
    goal = rng.randint(6, 20)
    wait_until(lambda: last_step(run) >= goal and len(workers(run)) == 2, process, out)
    os.kill(workers(run)[rng.randint(0, 1)], signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: starts(run) == 2, process, out)
    seconds = time.monotonic() - killed
    assert process.wait(400) == 0, out.read_text()[-3000:]
    assert "resuming" in out.read_text()
    assert hashes(run, STEPS) == straight
    assert seconds < 30, f"the restart took {seconds:.1f} s"
    print(f"restart after {seconds:.1f} s")


@pytest.mark.slow
def test_control_without_restarts_the_run_does_not_finish(small: SmallRuns, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "control.log"
    arguments = [*small.arguments(run, 3000, EVERY)[1:], "--device", "cpu"]
    process = elastic(arguments, out, restarts=0)
    wait_until(lambda: last_step(run) >= 6 and len(workers(run)) == 2, process, out)
    os.kill(workers(run)[1], signal.SIGKILL)
    assert process.wait(100) != 0


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_another_number_of_ranks(
    before: int, after: int, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    """Weights and the order of the data go on; noise is drawn per rank, so bits differ after it."""
    run, straight = tmp_path / "run", tmp_path / "straight"
    server.run(small.arguments(run, 7), before)
    said = server.run(small.arguments(run, 9), after, [("tell_rows",)])
    assert re.search(rf"changed: ranks +{before} +-> {after}", said[0])
    expected = server.run(small.arguments(straight, 9), before, [("tell_rows",)])
    for step in (7, 8):
        assert rows_of(said, step) == rows_of(expected, step) != []
    weights = load_tensors(run / "checkpoints" / "step-00000009" / "average.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    assert hashes(run, 9) != hashes(straight, 9)


def rows_of(said: list[str], step: int) -> list[str]:
    """The images of a step over all ranks."""
    lines = [line[5:] for text in said for line in text.splitlines() if line.startswith("ROWS ")]
    return sorted(row for at, rows in map(json.loads, lines) if at == step for row in rows)
