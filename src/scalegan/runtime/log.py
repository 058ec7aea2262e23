"""What a run says: console, progress bar, metrics.jsonl and a plot of the curves."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from scalegan.runtime.files import atomic_file

SECONDS_BETWEEN_LINES = 10
"""Without a terminal there is no bar but a line now and then."""


class Rate(ProgressColumn):
    """Images per second, over the recent past."""

    def render(self, task: Task) -> Text:
        return Text(f"{(task.speed or 0) * task.fields['batch_size']:,.0f} images/s")


class Log:
    """One run's record. Only the first rank's writes and speaks; the others are silent.

    Args:
        run: the run's folder.
        is_first: whether this is the first rank.
        resumed_step: lines of metrics.jsonl after it are dropped: they are about to be made again.
    """

    def __init__(self, run: Path, is_first: bool, resumed_step: int) -> None:
        self.is_first = is_first
        self.console = Console(quiet=not is_first, highlight=False)
        self.metrics = run / "metrics.jsonl"
        self.text = run / "log.txt"
        self.last_line = time.monotonic()
        if is_first:
            run.mkdir(parents=True, exist_ok=True)
            lines = [line for line in read_metrics(run) if line["step"] <= resumed_step]
            with atomic_file(self.metrics) as draft:
                draft.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def say(self, message: str, style: str = "") -> None:
        """Print a line and keep it in log.txt."""
        self.console.print(message, style=style, markup=False, soft_wrap=True)
        if self.is_first:
            with self.text.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def record(self, step: int, images_seen: int, values: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        if self.is_first:
            # JSON knows no NaN and no infinity.
            values = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in values.items()
            }
            line = {"step": step, "images_seen": images_seen, **values}
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def progress(self, total_steps: int, step: int, batch_size: int) -> "StepProgress":
        return StepProgress(self, total_steps, step, batch_size)


class StepProgress:
    """A bar with throughput, losses and the time left; plain lines without a terminal."""

    def __init__(self, log: Log, total: int, step: int, batch_size: int) -> None:
        self.log, self.total, self.first, self.batch_size = log, total, step, batch_size
        self.started = time.monotonic()
        self.losses = ""
        self.bar = Progress(
            TextColumn("step {task.completed:,}/{task.total:,}"),
            BarColumn(bar_width=24),
            Rate(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=log.console,
            speed_estimate_period=30,
            disable=not log.console.is_terminal,
        )
        self.task = self.bar.add_task(
            "", total=total, completed=step, batch_size=batch_size, losses=""
        )

    def __enter__(self) -> "StepProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, values: Mapping[str, float]) -> None:
        """Losses to show beside the bar."""
        self.losses = "  ".join(
            f"{name[0].upper()} {values[name]:.3f}"
            for name in ("d/adversarial", "g/adversarial")
            if name in values
        )
        self.bar.update(self.task, losses=self.losses)

    def advance(self, step: int) -> None:
        self.bar.update(self.task, completed=step)
        is_due = time.monotonic() - self.log.last_line > SECONDS_BETWEEN_LINES
        if not self.log.console.is_terminal and is_due and self.log.is_first:
            self.log.last_line = time.monotonic()
            rate = (step - self.first) / (time.monotonic() - self.started)
            minutes, seconds = divmod(int((self.total - step) / rate), 60)
            self.log.console.print(
                f"step {step:,}/{self.total:,}  {rate * self.batch_size:,.0f} images/s  "
                f"{self.losses}  {minutes}:{seconds:02d} left",
                markup=False,
            )


class PictureProgress:
    """A bar with pictures per second and the time left; plain lines without a terminal.

    Args:
        total: pictures in all; None if it is not known.
    """

    def __init__(self, total: int | None) -> None:
        self.total, self.done, self.skipped = total, 0, 0
        self.started = self.last_line = time.monotonic()
        console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("{task.completed:,} of " + (f"{total:,}" if total else "?") + " pictures"),
            BarColumn(bar_width=24),
            Rate(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            speed_estimate_period=30,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=total, batch_size=1)

    def __enter__(self) -> "PictureProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def skip(self, count: int) -> None:
        """Pictures that were done before, which say nothing of the speed."""
        self.skipped += count
        self.bar.update(self.task, completed=self.done + self.skipped)

    def advance(self, count: int) -> None:
        self.done += count
        self.bar.update(self.task, completed=self.done + self.skipped)
        now = time.monotonic()
        if not self.bar.console.is_terminal and now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            rate = self.done / (now - self.started)
            line = f"{self.done + self.skipped:,} pictures  {rate:,.0f} pictures/s"
            if self.total:
                left = (self.total - self.done - self.skipped) / rate
                minutes, seconds = divmod(int(left), 60)
                line += f"  {minutes}:{seconds:02d} of {self.total:,} left"
            self.bar.console.print(line, markup=False)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; a last line that a killed process cut short is left out."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def plot_curves(run: Path) -> None:
    """Draw what metrics.jsonl holds into curves.png: losses, logits, penalties, gradients."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [line for line in read_metrics(run) if "d/adversarial" in line]
    panels = {
        "adversarial losses": ["d/adversarial", "g/adversarial"],
        "logits": ["d/real_logits", "d/fake_logits"],
        "squared slopes": ["d/r1", "d/r2"],
        "gradient norms": ["d/grad_norm", "g/grad_norm"],
    }
    figure, axes = pyplot.subplots(1, len(panels), figsize=(16, 3.4), layout="constrained")
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            points = [
                (line["images_seen"], line[name]) for line in lines if line.get(name) is not None
            ]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1)
        axis.set(title=title, xlabel="images seen")
        if title in ("squared slopes", "gradient norms") and lines:
            axis.set_yscale("log")
        if axis.lines:
            axis.legend(frameon=False)
        axis.grid(alpha=0.2)
    with atomic_file(run / "curves.png") as draft:
        figure.savefig(draft, dpi=90)
    pyplot.close(figure)
