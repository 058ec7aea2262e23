"""Progress of something long: a bar in a terminal, a line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10


class Bar:
    """Counts up to a total, with rate and time left, on stderr.

    Args:
        total: of what `advance` is told.
        unit: what is counted, for example "step".
        per_unit: how many pictures one of them is, for the rate.
    """

    def __init__(self, total: int, unit: str, per_unit: int = 1) -> None:
        self.total, self.unit, self.per_unit, self.done = total, unit, per_unit, 0
        self.console = Console(stderr=True, highlight=False)
        self.started = self.last_line = time.monotonic()
        self.bar = Progress(
            TextColumn(unit + " {task.completed:,}/{task.total:,}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rate]:,.0f} images/s  {task.fields[note]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=total, rate=0.0, note="")

    def __enter__(self) -> "Bar":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.bar.stop()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count on; the note stands beside the rate."""
        self.done += count
        now = time.monotonic()
        rate = self.done / max(now - self.started, 1e-9)
        self.bar.update(self.task, completed=self.done, rate=rate * self.per_unit, note=note)
        if not self.console.is_terminal and now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            minutes, seconds = divmod(int((self.total - self.done) / rate), 60)
            self.console.print(
                f"{self.unit} {self.done:,}/{self.total:,}  {rate * self.per_unit:,.0f} images/s  "
                f"{note}  {minutes}:{seconds:02d} left",
                markup=False,
            )
