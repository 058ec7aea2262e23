"""Long work shows how far it is: a bar in a terminal, else a line now and then."""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from scalegan.runtime.log import SECONDS_BETWEEN_LINES

T = TypeVar("T")


class Rate(ProgressColumn):
    """Things per second, over the recent past."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} {task.fields['unit']}/s")


def follow(items: Iterable[T], total: int | None, unit: str, is_shown: bool = True) -> Iterator[T]:
    """Pass items on and show their number, rate and the time left, on stderr.

    Args:
        total: how many will come, if that is known.
        unit: what they are, in the plural.
        is_shown: False for all ranks but the first.
    """
    console = Console(stderr=True, quiet=not is_shown)
    columns = (
        TextColumn("{task.completed:,} {task.fields[unit]}"),
        BarColumn(bar_width=24),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    started = last = time.monotonic()
    is_bar = console.is_terminal and is_shown
    with Progress(*columns, console=console, disable=not is_bar, transient=True) as bar:
        task = bar.add_task("", total=total, unit=unit)
        for count, item in enumerate(items, 1):
            yield item
            bar.advance(task)
            now = time.monotonic()
            if not is_bar and now - last > SECONDS_BETWEEN_LINES:
                last = now
                rate = count / (now - started)
                minutes, seconds = divmod(int(max(0, (total or count) - count) / rate), 60)
                of, left = (f"/{total:,}", f"  {minutes}:{seconds:02d} left") if total else ("", "")
                console.print(f"{count:,}{of} {unit}  {rate:,.0f}/s{left}", highlight=False)


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
