"""Stopped by a signal to any rank, and resumed: the bits of a run that was not stopped."""

import random
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.fork_server import ForkServer
from tests.support.runs import SmallRuns, hashes, last_step

STEPS = 14
STOPS = (1, 4, 5, 6, 9, 12)  # steps before which the signal comes; an epoch ends at 6 and 12
Straight = dict[tuple[int, bool], dict[str, str]]


def looking(is_on: bool) -> list[str]:
    """Samples, evaluation and curves in between and at the end, or none."""
    return ["2 steps", "--evaluate.num-images", "20"] if is_on else ["1000 steps"]


@pytest.fixture(scope="module")
def straight() -> Straight:
    return {}


def of_straight(
    found: Straight, server: ForkServer, small: SmallRuns, folder: Path, ranks: int, is_on: bool
) -> dict[str, str]:
    """What a run leaves that nobody stopped, made once."""
    if (ranks, is_on) not in found:
        run = folder / "straight"
        server.run(
            small.arguments(run, STEPS, "1000 steps", *looking(is_on)), ranks, with_curves=is_on
        )
        found[ranks, is_on] = hashes(run, STEPS)
    return found[ranks, is_on]


FAST = {(1, 5, True), (2, 6, False)}
CASES = [
    pytest.param(ranks, stop, is_on,
                 marks=[] if (ranks, stop, is_on) in FAST else [pytest.mark.slow])
    for ranks in (1, 2) for is_on in (False, True) for stop in STOPS
]  # fmt: skip


@pytest.mark.parametrize(("ranks", "stop", "is_on"), CASES)
def test_stopped_and_resumed_equals_straight(
    ranks: int, stop: int, is_on: bool, straight: Straight, server: ForkServer, small: SmallRuns,
    tmp_path: Path,
) -> None:  # fmt: skip
    expected = of_straight(straight, server, small, tmp_path, ranks, is_on)
    run = tmp_path / "run"
    arguments = small.arguments(run, STEPS, "1000 steps", *looking(is_on))
    faults = [("signal_at", stop, stop % ranks), ("tell_saves",)]
    said = server.run(arguments, ranks, faults, 128 + signal.SIGTERM, with_curves=is_on)
    # The signal came before a step was made, and the reduction of that step told all ranks.
    steps = [re.findall(r"saving at step (\d+) on", text) for text in said]
    assert steps == [[str(stop + 1)]] * ranks
    assert f"stopped at step {stop + 1} of {STEPS} by signal 15" in said[0]
    server.run(arguments, ranks, with_curves=is_on)
    assert hashes(run, STEPS) == expected
    assert last_step(run) == STEPS


@pytest.mark.slow
def test_a_signal_in_the_last_step_finds_the_run_complete(
    straight: Straight, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    expected = of_straight(straight, server, small, tmp_path, 1, False)
    server.run(small.arguments(tmp_path / "run", STEPS), 1, [("signal_at", STEPS - 1, 0)])
    assert hashes(tmp_path / "run", STEPS) == expected


@pytest.mark.slow
def test_control_a_forgotten_average_is_noticed(
    straight: Straight, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    expected = of_straight(straight, server, small, tmp_path, 1, False)
    arguments = small.arguments(tmp_path / "run", STEPS)
    server.run(arguments, 1, [("signal_at", 5, 0)], code=143)
    server.run(arguments, 1, [("break_resume",)])
    found = hashes(tmp_path / "run", STEPS)
    assert found["average.safetensors"] != expected["average.safetensors"]
    assert found["generator.safetensors"] == expected["generator.safetensors"]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))]
)
def test_a_signal_at_any_moment_to_any_rank(
    seed: int, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    number = rng.choice([signal.SIGTERM, signal.SIGUSR1]) if seed else signal.SIGUSR1
    arguments = small.arguments(tmp_path, 3000, rng.choice(["1 step", "1000 steps"]))
    ranks = server.start(arguments, 2, [("tell_saves",)])
    ranks[0].until(lambda: last_step(tmp_path) > rng.randint(0, 6))
    time.sleep(0.1 * rng.random())
    sent = time.monotonic()
    ranks[rng.randint(0, 1)].send(number)
    codes = [rank.wait(60) for rank in ranks]
    assert time.monotonic() - sent < 10
    assert codes == [128 + number] * 2, [rank.text for rank in ranks]
    steps = [re.findall(r"saving at step (\d+) on", rank.text)[-1] for rank in ranks]
    assert steps[0] == steps[1]
    assert hashes(tmp_path, int(steps[0]))


@pytest.mark.slow
def test_control_a_rank_that_stops_by_itself_is_noticed(
    server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    faults = [("signal_at", 3, 1), ("break_stopping",), ("tell_saves",)]
    ranks = server.start(small.arguments(tmp_path, 30), 2, faults)
    codes = [rank.wait(30) for rank in ranks]
    steps = [re.findall(r"saving at step (\d+) on", rank.text)[-1:] for rank in ranks]
    assert codes != [143, 143] or steps[0] != steps[1]
    for rank in ranks:
        if rank.wait(0) is None:
            rank.send(signal.SIGKILL)
