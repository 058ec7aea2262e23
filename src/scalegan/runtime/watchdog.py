"""Names the rank that stands still, dumps the stacks of the others, and ends them all.

The work itself only counts (`Pulse`): a number per collective call and per step. A thread in every
rank writes that number into a small file of the run's folder. The first rank's thread compares all
files; the other ranks' threads read the first rank's file and the verdict. Ages are measured
by the observer's own clock, so that clocks of machines need not agree.
"""

import faulthandler
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXIT_SILENT = 75
"""Exit code of a group that was ended because a rank stood still (EX_TEMPFAIL: try again)."""
SECONDS_BETWEEN_CHECKS = 1.0
FOLDER = "heartbeats"


@contextmanager
def ended_after(seconds: float, sentence: str, hint: str) -> Iterator[None]:
    """End this process with EXIT_SILENT, and say so, if the block takes longer."""

    def end() -> None:
        os.write(2, f"error: {sentence} within {seconds:g} seconds\nhint: {hint}\n".encode())
        os._exit(EXIT_SILENT)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass
class Pulse:
    """What the work of a rank leaves for its watchdog to read: two attributes, and no message."""

    count: int = 0
    is_waiting: bool = False
    """Whether it waits for other ranks."""

    def beat(self) -> None:
        """Count on: a sign of life, to be given at least once per `timeout_seconds`."""
        self.count += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a call that returns once all ranks have made it."""
        self.count += 1
        self.is_waiting = True
        yield
        self.is_waiting = False
        self.count += 1


@dataclass
class LastBeat:
    """The last heartbeat read of a rank, and since when (by the reader's clock) it is unchanged."""

    beat: dict[str, Any] = field(default_factory=dict)
    count_since: float = field(default_factory=time.monotonic)
    file_since: float = field(default_factory=time.monotonic)

    def update(self, path: Path) -> None:
        """Read a rank's file again; one that is missing or half written is an unchanged one."""
        try:
            beat = json.loads(path.read_text())
        except (OSError, ValueError):
            return
        now = time.monotonic()
        if beat != self.beat:
            self.file_since = now
        if beat["count"] != self.beat.get("count"):
            self.count_since = now
        self.beat = beat


class Watchdog(AbstractContextManager["Watchdog"]):
    """Watches a group of ranks, this one included, from a thread of its own.

    Args:
        run: the run's folder, which all ranks see; heartbeats and stacks are written into it.
        rank: of this process.
        size: number of ranks.
        pulse: counter of the work of this process.
        timeout_seconds: silence that ends the run; 0 = nothing is watched.
    """

    def __init__(
        self, run: Path, rank: int, size: int, pulse: Pulse, timeout_seconds: float
    ) -> None:
        self.folder = run / FOLDER
        self.rank, self.size, self.pulse, self.timeout = rank, size, pulse, timeout_seconds
        watched = range(size) if rank == 0 else range(1)
        self.last_beats = {other: LastBeat() for other in watched}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.writes = 0

    def __enter__(self) -> "Watchdog":
        """Start; all ranks enter together, after `clear` and a barrier."""
        if self.timeout > 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write()
            self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        if self.thread.is_alive():
            self.thread.join()  # does not return if a verdict is being carried out
        if error[0] is not None and self.timeout > 0 and (verdict := self._read_verdict()):
            self._end(verdict)  # what failed here is that another rank has left already

    def _watch(self) -> None:
        seconds = min(SECONDS_BETWEEN_CHECKS, self.timeout / 10)
        before = time.monotonic()
        while not self.done.wait(seconds):
            now = time.monotonic()
            if now - before > self.timeout / 2:  # this process was asleep: begin anew
                self.last_beats = {other: LastBeat() for other in self.last_beats}
            before = now
            self._write()
            for other, last in self.last_beats.items():
                last.update(self._path(other))
            verdict = self._read_verdict() or self._find_silent()
            if verdict:
                self._end(verdict)

    def _find_silent(self) -> str:
        """Who stands still, as a sentence; "" while nobody does."""
        now = time.monotonic()
        silent = {}
        for other, last in self.last_beats.items():
            if now - last.file_since > self.timeout:
                silent[other] = "gives no sign of life: it was stopped, or its machine is gone"
            elif now - last.count_since > self.timeout and not last.beat.get("is_waiting"):
                silent[other] = "does not get on with its work"
        if silent:
            return self._sentence(silent)
        if self.rank > 0 or any(
            now - b.count_since <= self.timeout for b in self.last_beats.values()
        ):
            return ""
        # All wait for each other: the one that made fewer calls was not where the others are.
        counts = {other: last.beat.get("count", 0) for other, last in self.last_beats.items()}
        least = min(counts.values())
        behind = {o: "waits, but not where the others do" for o, c in counts.items() if c == least}
        if len(behind) == self.size:
            behind = dict.fromkeys(behind, "waits for the others: look at the link between them")
        return self._sentence(behind)

    def _sentence(self, silent: dict[int, str]) -> str:
        parts = []
        for other, how in sorted(silent.items()):
            beat = self.last_beats[other].beat
            where = f" ({beat['host']}, process {beat['pid']})" if beat else ""
            parts.append(f"rank {other}{where} {how}")
        verdict = f"after {self.timeout:g} s of silence: {'; '.join(parts)}"
        with suppress(OSError):
            targets = [
                self.last_beats[other].beat for other in silent if self.last_beats[other].beat
            ]
            draft = self.folder / f".verdict.{self.rank}"
            draft.write_text(json.dumps({"says": verdict, "silent": targets}))
            draft.replace(self.folder / "verdict.json")
        return verdict

    def _read_verdict(self) -> str:
        try:
            return str(json.loads((self.folder / "verdict.json").read_text())["says"])
        except (OSError, ValueError, KeyError):
            return ""

    def _end(self, verdict: str) -> None:
        """Dump this rank's stacks, end a silent neighbor, and leave at once."""
        stacks = self.folder / f"stacks-{self.rank:05d}.txt"
        print(f"watchdog of rank {self.rank}: {verdict}; stacks in `{stacks}`", file=sys.stderr)
        with suppress(OSError), stacks.open("w", encoding="utf-8") as file:
            file.write(f"{verdict}\n\n")
            file.flush()
            faulthandler.dump_traceback(file)
        with suppress(OSError, ValueError, KeyError):
            silent = json.loads((self.folder / "verdict.json").read_text())["silent"]
            if os.getpid() not in [beat["pid"] for beat in silent]:
                # A hanging one may yet do the above; a stopped process ends by nothing but this.
                time.sleep(2 * min(SECONDS_BETWEEN_CHECKS, self.timeout / 10))
                for beat in silent:
                    if beat["host"] == socket.gethostname():
                        os.kill(beat["pid"], signal.SIGKILL)
        sys.stderr.flush()
        os._exit(EXIT_SILENT)

    def _write(self) -> None:
        self.writes += 1
        beat = {
            "count": self.pulse.count,
            "is_waiting": self.pulse.is_waiting,
            "writes": self.writes,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        path = self._path(self.rank)
        with suppress(OSError):  # a disk that is full is no reason to end a run
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(beat))
            draft.replace(path)

    def _path(self, rank: int) -> Path:
        return self.folder / f"rank-{rank:05d}.json"


def clear(run: Path) -> None:
    """Forget the heartbeats and the verdict of an earlier start; by the first rank."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)
