"""Worker processes: order, errors, and an end when they are no longer needed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from scalegan.errors import DataError
from scalegan.runtime.workers import Workers


class Double:
    """Doubles, and misbehaves at one number."""

    def __init__(self, bad: str = "") -> None:
        self.bad = bad

    def __call__(self, number: int) -> tuple[int, int, int]:
        if number == 7 and self.bad == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 7 and self.bad == "raise":
            raise DataError("seven is bad")
        return 2 * number, torch.get_num_threads(), os.getpid()


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_order_and_errors_where_results_would(count: int) -> None:
    before = torch.get_num_threads()
    drawn: list[int] = []

    def tasks(end: int) -> Iterator[int]:
        for i in range(end):
            drawn.append(i)
            yield i

    with Workers(partial(Double, "raise"), count) as pool:
        results = list(pool.map(tasks(7)))
        assert [(task, result[0]) for task, result in results] == [(i, 2 * i) for i in range(7)]
        assert {result[1] for _, result in results} == {1}  # threads
        assert (os.getpid() in {result[2] for _, result in results}) == (count == 1)
        drawn.clear()
        more = pool.map(tasks(1000))
        assert [next(more)[0] for _ in range(7)] == list(range(7))
        assert len(drawn) <= 7 + 2 * count + 1  # only a little ahead
        with pytest.raises(DataError, match="seven is bad"):
            next(more)
    assert torch.get_num_threads() == before


def test_a_killed_worker_is_a_sentence() -> None:
    with (
        Workers(partial(Double, "die"), 2) as pool,
        pytest.raises(DataError, match=r"^a worker process ended early"),
    ):
        list(pool.map(iter(range(20))))


def is_running(number: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from scalegan.runtime.workers import Workers\n"
        "from tests.unit.runtime.test_workers import Double\n"
        "if __name__ == '__main__':\n"
        "    with Workers(Double, 2) as pool:\n"
        "        numbers = {r[2] for _, r in pool.map(iter(range(40)))}\n"
        "        print(*numbers, flush=True)\n"
        "        time.sleep(60)\n"
    )
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}  # the script imports tests
    command = [sys.executable, script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=here)
    assert process.stdout is not None
    numbers = [int(number) for number in process.stdout.readline().split()]
    assert numbers and all(map(is_running, numbers))
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(map(is_running, numbers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
