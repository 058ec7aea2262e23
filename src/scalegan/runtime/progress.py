"""Long work shows how far it is: a bar in a terminal, else a line now and then."""

import time
from collections.abc import Iterable, Iterator
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
