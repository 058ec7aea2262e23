"""NaN and infinity at every site, on one rank of two: nothing moves, and all ranks agree."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from scalegan.runtime.log import read_metrics
from tests.support.fork_server import ForkServer
from tests.support.injected_faults import SITES
from tests.support.runs import SmallRuns, hashes

VALUES = ("nan", "inf", "-inf")
# No three in a row: between any two of them is a good step.
PLAN = {
    str(1 + 2 * i): (site, value)
    for i, (site, value) in enumerate((s, v) for s in SITES for v in VALUES)
}
STEPS = 2 * len(PLAN) + 2
NAMED = {
    "data": "real samples",
    "forward": "d/adversarial",
    "loss": "d/adversarial",
    "penalty": "d/r1_penalty",
    "gradient": "gradient of discriminator.",
    "buffer": "generator.style_mean",
    "generator's loss": "g/adversarial",
}


def poisoned(said: str) -> list[dict[str, Any]]:
    prefix = "POISON "
    return [json.loads(line[len(prefix) :]) for line in said.splitlines() if prefix == line[:7]]


def moved(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events after which a part of the state was not what it had been."""
    is_late = [event["site"] == "generator's loss" for event in events]  # D had moved before
    return [
        event
        for event, late in zip(events, is_late, strict=True)
        if event["is_finite"] or not event["g_unchanged" if late else "unchanged"]
    ]


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_nothing_moves_and_all_ranks_agree(
    rank: int, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    said = server.run(small.arguments(tmp_path, STEPS), 2, [("poison", PLAN, rank)])
    first, second = map(poisoned, said)
    assert len(first) == len(PLAN) and first == second
    assert moved(first) == []
    for event in first:
        assert event["bad"].startswith(NAMED[event["site"]]), event
    assert {event["bad"] for event in first if event["site"] == "data"} == {
        f"real samples, on rank {rank}"
    }
    lines = [line for line in read_metrics(tmp_path) if "not_finite" in line]
    assert [line["not_finite"] for line in lines] == [event["bad"] for event in first]
    assert hashes(tmp_path, STEPS)


@pytest.mark.parametrize(
    "control", ["break_finite_check", pytest.param("break_agreement", marks=pytest.mark.slow)]
)
def test_control_a_weaker_check_is_noticed(
    control: str, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    plan = {"1": ("buffer", "inf"), "3": ("penalty", "inf")}
    plan = plan if control == "break_finite_check" else {"1": ("buffer", "nan")}
    ranks = server.start(small.arguments(tmp_path, 4), 2, [(control,), ("poison", plan, 1)])
    codes = [rank.wait(30) for rank in ranks]
    events = [poisoned(rank.text) for rank in ranks]
    for rank in ranks:
        if rank.wait(0) is None:
            rank.send(signal.SIGKILL)
    assert codes != [0, 0] or events[0] != events[1] or moved(events[0]) != []


THREE = {str(step): ("loss", "nan") for step in (7, 8, 9)}


def test_three_in_a_row_roll_back(server: ForkServer, small: SmallRuns, tmp_path: Path) -> None:
    arguments = small.arguments(tmp_path / "run", 14, "3 steps")
    (said,) = server.run(arguments, 1, [("poison", THREE, 0)])
    assert "rolled back from step 10 to" in said and "step-00000006`; attempt 1" in said
    (event,) = json.loads((tmp_path / "run" / "attempts.json").read_text())
    assert (event["attempt"], event["from_step"], event["to_step"]) == (1, 10, 6)
    assert event["bad"] == [f"step {step}: d/adversarial" for step in (8, 9, 10)]
    (line,) = [line for line in read_metrics(tmp_path / "run") if "event" in line]
    assert (line["step"], line["event"]) == (6, "rollback")
    # The same again, but killed after the rollback: the attempt was written down.
    again = small.arguments(tmp_path / "again", 14, "3 steps")
    faults = [("poison", THREE, 0), ("signal_at", 13, 0, signal.SIGKILL)]
    server.run(again, 1, faults, code=-signal.SIGKILL)
    server.run(again, 1, [("poison", THREE, 0)])
    assert hashes(tmp_path / "again", 14) == hashes(tmp_path / "run", 14)
    # And the random draws were new ones.
    straight = tmp_path / "straight"
    server.run(small.arguments(straight, 14, "3 steps"))
    assert hashes(straight, 14) != hashes(tmp_path / "run", 14)


@pytest.mark.slow
def test_control_the_same_dice_are_noticed(
    server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    """Without a new attempt the same poison comes again, until the run gives up."""
    arguments = small.arguments(tmp_path, 14, "3 steps")
    faults = [("break_attempts",), ("poison", THREE, 0)]
    (said,) = server.run(arguments, 1, faults, code=2)
    assert "after 3 rollbacks" in said


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_after_three_rollbacks_the_run_stops_with_a_report(
    ranks: int, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    server.run(small.arguments(tmp_path, 4, "2 steps"), ranks)
    before = hashes(tmp_path, 4)
    faults = [("poison", {"all": ("gradient", "inf")}, ranks - 1, 99)]
    said = server.run(small.arguments(tmp_path, 9, "2 steps"), ranks, faults, code=2)
    for text in said:
        assert "error: after 3 rollbacks, 3 steps in a row up to step 7 had values that" in text
        assert "first bad tensors: step 5: gradient of discriminator." in text
        assert "hint: the last checkpoint is sound" in text and "Traceback" not in text
    events = json.loads((tmp_path / "attempts.json").read_text())
    assert [event["attempt"] for event in events] == [1, 2, 3]
    assert hashes(tmp_path, 4) == before
