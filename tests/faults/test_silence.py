"""A rank that hangs or is stopped: named, stacks dumped, all ended in time."""

import re
import signal
import time
from pathlib import Path

import pytest

from scalegan.runtime.watchdog import EXIT_SILENT
from tests.support.fork_server import Child, ForkServer
from tests.support.runs import SmallRuns, last_step

TIMEOUT = 4.0


def silence(
    server: ForkServer, small: SmallRuns, run: Path, ranks: int, silent: int, how: str,
    faults: tuple = (),
) -> tuple[float, list[int | None], list[Child]]:  # fmt: skip
    """Silence a rank; seconds until all had ended, and their exit codes."""
    arguments = small.arguments(run, 3000, "1000 steps", "1000 steps")
    arguments += ["--train.timeout-seconds", str(TIMEOUT)]
    faults = [*faults, *([("hang_at", 5, silent)] if how == "hang" else [])]
    children = server.start(arguments, ranks, faults)
    assert children[0].until(lambda: last_step(run) >= (5 if how == "hang" else 3))
    if how == "stop":
        children[silent].send(signal.SIGSTOP)
    since = time.monotonic()
    codes = [child.wait(max(0, since + TIMEOUT + 15 - time.monotonic())) for child in children]
    return time.monotonic() - since, codes, children


@pytest.mark.parametrize(
    ("how", "ranks", "silent"),
    [
        ("hang", 2, 1),
        pytest.param("stop", 2, 0, marks=pytest.mark.slow),
        pytest.param("hang", 2, 0, marks=pytest.mark.slow),
        pytest.param("stop", 2, 1, marks=pytest.mark.slow),
        pytest.param("hang", 1, 0, marks=pytest.mark.slow),
        pytest.param("stop", 3, 2, marks=pytest.mark.slow),
    ],
)
def test_the_silent_rank_is_named(
    how: str, ranks: int, silent: int, server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    small = small if ranks < 3 else Threes(small.data)
    seconds, codes, children = silence(server, small, tmp_path, ranks, silent, how)
    assert seconds < TIMEOUT + 5, [child.text for child in children]
    others = [rank for rank in range(ranks) if rank != silent]
    assert codes[silent] in ([EXIT_SILENT, -signal.SIGKILL] if how == "hang" else [-signal.SIGKILL])
    assert all(codes[rank] == EXIT_SILENT for rank in others), (codes, children[0].text)
    what = "gives no sign of life" if how == "stop" else "does not get on with its work"
    where = rf"rank {silent} \(\S+, process {children[silent].pid}\) {what}"
    for rank in others:
        assert re.search(where, children[rank].text), children[rank].text
        stacks = (tmp_path / "heartbeats" / f"stacks-{rank:05d}.txt").read_text()
        assert "in train_step" in stacks or "in finish" in stacks
    if how == "hang":
        stacks = (tmp_path / "heartbeats" / f"stacks-{silent:05d}.txt").read_text()
        assert "injected_faults.py" in stacks  # where it hangs


class Threes(SmallRuns):
    """Batches that three ranks can share."""

    def arguments(self, run: Path, steps: int, *rest: str) -> list[str]:
        return [*super().arguments(run, steps, *rest), "--train.batch-size", "6"]


@pytest.mark.slow
def test_control_without_a_watchdog_the_group_stands(
    server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    faults = (("break_watchdog",),)
    seconds, codes, children = silence(server, small, tmp_path, 2, 1, "hang", faults)
    assert seconds > TIMEOUT + 5 and codes == [None, None]
    for child in children:
        child.send(signal.SIGKILL)


def test_a_rank_that_is_killed_leaves_a_sentence(
    server: ForkServer, small: SmallRuns, tmp_path: Path
) -> None:
    ranks = server.start(small.arguments(tmp_path, 3000), 2)
    assert ranks[0].until(lambda: last_step(tmp_path) >= 2)
    ranks[1].send(signal.SIGKILL)
    assert ranks[0].wait(30) == 2
    assert "error: rank 0 lost the others: " in ranks[0].text
    assert "the same command goes on from the last checkpoint" in ranks[0].text
