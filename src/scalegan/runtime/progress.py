"""Progress of long work: a bar in a terminal, else a line now and then."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scalegan.runtime.text import clock

SECONDS_BETWEEN_LINES = 10
"""Without a terminal there is no bar but a line now and then."""

T = TypeVar("T")


class Bar:
    """Counts up to a total, with rate and time left.

    Args:
        total: where the count ends; None if it is not known.
        unit: what is counted, in the plural.
        done: what was done before, which says nothing of the speed.
        images_per_unit: if not 0, the rate is shown in images.
        console: where to show it; stderr if not given.
        is_shown: False for all ranks but the first.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        done: int = 0,
        images_per_unit: int = 0,
        console: Console | None = None,
        is_shown: bool = True,
    ) -> None:
        self.total, self.unit, self.done, self.before = total, unit, done, done
        self.per_unit, self.rated = images_per_unit or 1, "images" if images_per_unit else unit
        self.console = console or Console(stderr=True, highlight=False)
        self.is_shown = is_shown
        self.note = ""
        self.started = self.last_line = time.monotonic()
        self.bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            speed_estimate_period=30,
            disable=not (is_shown and self.console.is_terminal),
        )
        self.task = self.bar.add_task("", total=total, completed=done)

    def __enter__(self) -> "Bar":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def skip(self, count: int) -> None:
        """Count what turns out to be done already."""
        self.before += count
        self.advance(count)

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count on. A note stands beside the rate until another one comes."""
        self.done += count
        self.note = self.note if note is None else note
        now = time.monotonic()
        rate = (self.done - self.before) / max(now - self.started, 1e-9)
        of = "" if self.total is None else f"/{self.total:,}"
        text = f"{self.done:,}{of} {self.unit}  {rate * self.per_unit:,.0f} {self.rated}/s"
        text += f"  {self.note}" if self.note else ""
        self.bar.update(self.task, completed=self.done, description=text)
        is_due = now - self.last_line > SECONDS_BETWEEN_LINES
        if is_due and self.is_shown and not self.console.is_terminal:
            self.last_line = now
            if self.total is not None and rate > 0:
                text += f"  {clock((self.total - self.done) / rate)} left"
            self.console.print(text, markup=False)


def follow(
    items: Iterable[T],
    total: int | None,
    unit: str,
    is_shown: bool = True,
    size: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Pass items on and show their number, rate and the time left, on stderr.

    Args:
        total: how many will come, if that is known.
        unit: what they are, in the plural.
        is_shown: False for all ranks but the first.
        size: how many units an item counts for.
    """
    with Bar(total, unit, is_shown=is_shown) as bar:
        for item in items:
            yield item
            bar.advance(size(item))
