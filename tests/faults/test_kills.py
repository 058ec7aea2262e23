"""Killed at any moment of training and saving: never without a valid checkpoint."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.fork_server import ForkServer
from tests.support.runs import SmallRuns, hashes, last_step, newest_valid

INTERVAL, STEPS = 2, 40
EVERY = f"{INTERVAL} steps"
POINTS = ["draft made", "generator written", "discriminator written", "average written",
          "files written", "manifest written", "files flushed", "renamed", "before verification",
          "verified", "name taken away", "old ones gone"]  # fmt: skip


def assert_little_lost(run: Path, before: int) -> int:
    """There is a valid checkpoint, and it is at most one interval old."""
    newest = newest_valid(run)
    assert newest >= before and newest >= last_step(run) - INTERVAL, (newest, last_step(run))
    return newest


def kill_at_points(
    server: ForkServer, small: SmallRuns, run: Path, faults: list, points: list
) -> int:
    """Kill a run at each of the points in turn, resuming in between; return the kills."""
    arguments, kills = small.arguments(run, STEPS, EVERY), 0
    newest = newest_valid(run)
    for point, nth in points:
        (child,) = server.start(arguments, 1, [*faults, ("kill_at", point, nth)])
        if child.wait() == -signal.SIGKILL:
            kills += 1
            newest = assert_little_lost(run, newest)
    return kills


@pytest.fixture(scope="module")
def straight(
    server: ForkServer, small: SmallRuns, tmp_path_factory: pytest.TempPathFactory
) -> dict:
    run = tmp_path_factory.mktemp("straight")
    server.run(small.arguments(run, STEPS, EVERY))
    return hashes(run, STEPS)


def begun(server: ForkServer, small: SmallRuns, run: Path) -> list[str]:
    """Arguments of a run that has two checkpoints."""
    server.run(small.arguments(run, 2 * INTERVAL, EVERY))
    return small.arguments(run, STEPS, EVERY)


def test_killed_at_every_point_of_saving(
    server: ForkServer, small: SmallRuns, straight: dict, tmp_path: Path
) -> None:
    arguments = begun(server, small, tmp_path)
    points = [(point, 1) for point in POINTS]
    assert kill_at_points(server, small, tmp_path, [], points) == len(POINTS)
    server.run(arguments)
    assert hashes(tmp_path, STEPS) == straight


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(9))
def test_killed_often_at_points(
    seed: int, server: ForkServer, small: SmallRuns, straight: dict, tmp_path: Path
) -> None:
    begun(server, small, tmp_path)
    rng = random.Random(seed)
    points = [(rng.choice([*POINTS, ""]), rng.randint(1, 2)) for _ in range(10)]
    assert kill_at_points(server, small, tmp_path, [], points) >= 8
    server.run(small.arguments(tmp_path, STEPS, EVERY), code=None)
    assert hashes(tmp_path, STEPS) == straight


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_moments(
    seed: int, server: ForkServer, small: SmallRuns, straight: dict, tmp_path: Path
) -> None:
    """Ten kills, a hundred over all seeds."""
    arguments = begun(server, small, tmp_path)
    rng, newest = random.Random(seed), newest_valid(tmp_path)
    for _ in range(10):
        (child,) = server.start(arguments)
        goal = min(STEPS - 3, newest + rng.randint(0, 3))
        child.until(lambda goal=goal: last_step(tmp_path) > goal)
        time.sleep(0.1 * rng.random())
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, child.text
        newest = assert_little_lost(tmp_path, newest)
    server.run(arguments)
    assert hashes(tmp_path, STEPS) == straight


def test_control_saving_in_place_is_noticed(
    server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    begun(server, small, tmp_path)
    with pytest.raises(AssertionError):
        points = [("average written", 1)]
        kill_at_points(server, small, tmp_path, [("break_saving",)], points)
