import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scalegan.runtime.watchdog import EXIT_SILENT, Pulse, Watchdog, clear


def write(run: Path, rank: int, count: int, writes: int, is_waiting: bool) -> None:
    beat = {"count": count, "is_waiting": is_waiting, "writes": writes, "host": "h", "pid": 10**6}
    (run / "heartbeats").mkdir(exist_ok=True)
    (run / "heartbeats" / f"rank-{rank:05d}.json").write_text(json.dumps(beat))


Beats = list[tuple[int, int, bool]]


def judged(run: Path, beats: Beats, later: Beats) -> str:
    """What the first rank says of (count, writes, is_waiting) per rank, then and a while later."""
    dog = Watchdog(run, 0, len(beats), Pulse(), timeout_seconds=0.05)
    for rank, beat in enumerate(beats):
        write(run, rank, *beat)
        dog.last_beats[rank].update(dog._path(rank))
    time.sleep(0.1)
    for rank, beat in enumerate(later):
        write(run, rank, *beat)
        dog.last_beats[rank].update(dog._path(rank))
    return dog._find_silent()


def test_work_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    assert judged(tmp_path, [(5, 1, False), (5, 1, True)], [(6, 2, False), (7, 2, True)]) == ""


def test_a_rank_that_does_not_get_on_is_named(tmp_path: Path) -> None:
    said = judged(tmp_path, [(5, 1, True), (4, 1, False)], [(5, 2, True), (4, 2, False)])
    assert (
        said == "after 0.05 s of silence: rank 1 (h, process 1000000) does not get on with its work"
    )


def test_a_rank_without_a_sign_of_life_is_named(tmp_path: Path) -> None:
    said = judged(tmp_path, [(5, 1, True), (5, 1, True)], [(5, 2, True), (5, 1, True)])
    assert "rank 1 (h, process 1000000) gives no sign of life" in said


def test_a_rank_that_never_came_is_named(tmp_path: Path) -> None:
    dog = Watchdog(tmp_path, 0, 2, Pulse(), timeout_seconds=0.05)
    write(tmp_path, 0, 3, 1, True)
    time.sleep(0.1)
    dog.last_beats[0].update(dog._path(0))
    assert "rank 1 gives no sign of life" in dog._find_silent()


def test_where_all_wait_the_one_behind_is_named(tmp_path: Path) -> None:
    said = judged(tmp_path, [(9, 1, True), (7, 1, True)], [(9, 2, True), (7, 2, True)])
    assert "rank 1 (h, process 1000000) waits, but not where the others do" in said
    said = judged(tmp_path, [(9, 1, True), (9, 1, True)], [(9, 2, True), (9, 2, True)])
    assert said.count("look at the link between them") == 2


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_watchdog_comes_and_goes(seconds: float, tmp_path: Path) -> None:
    pulse = Pulse()
    with Watchdog(tmp_path, 0, 1, pulse, seconds) as dog:
        pulse.beat()
        with pulse.waiting():
            assert pulse.is_waiting
        assert pulse.count == 3 and not pulse.is_waiting
    assert not dog.thread.is_alive()
    assert (tmp_path / "heartbeats" / "rank-00000.json").exists() == (seconds > 0)
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_heartbeat_is_no_change(tmp_path: Path) -> None:
    dog = Watchdog(tmp_path, 0, 1, Pulse(), 60.0)
    write(tmp_path, 0, 3, 1, False)
    dog.last_beats[0].update(dog._path(0))
    dog._path(0).write_text('{"cou')
    dog.last_beats[0].update(dog._path(0))
    assert dog.last_beats[0].beat["count"] == 3


def test_a_heartbeat_names_its_process(tmp_path: Path) -> None:
    with Watchdog(tmp_path, 2, 3, Pulse(), 60.0):
        beat = json.loads((tmp_path / "heartbeats" / "rank-00002.json").read_text())
    assert beat["pid"] == os.getpid() and beat["count"] == 0


@pytest.mark.parametrize(("seconds", "code"), [(0.1, EXIT_SILENT), (60.0, 0)])
def test_a_block_that_takes_too_long_ends_the_process(seconds: float, code: int) -> None:
    lines = f"""
import time
from scalegan.runtime.watchdog import ended_after
with ended_after({seconds}, "nothing happened", "try again"):
    time.sleep(0.5)
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == code
    said = f"error: nothing happened within {seconds:g} seconds\nhint: try again\n"
    assert done.stderr == (said if code else "")
