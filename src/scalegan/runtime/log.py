"""What a run says: console, progress bar, metrics.jsonl and a plot of the curves."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from scalegan.runtime.files import atomic_file
from scalegan.runtime.progress import Bar

FEW_POINTS = 20
"""Of a curve: so few are marked one by one."""


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
        if is_first:
            run.mkdir(parents=True, exist_ok=True)
        self.rewind(resumed_step)

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Drop lines of metrics.jsonl after a step, and return the others."""
        if not self.is_first:
            return []
        lines = [line for line in read_metrics(self.metrics.parent) if line["step"] <= step]
        with atomic_file(self.metrics) as draft:
            draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return lines

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

    def progress(self, total_steps: int | None, step: int, batch_size: int) -> Bar:
        """A bar of steps, with images per second, losses and the time left."""
        return Bar(total_steps, "steps", step, batch_size, self.console, self.is_first)


def losses(values: Mapping[str, float]) -> str:
    """Both adversarial losses in a few letters, to stand beside a bar."""
    names = ("d/adversarial", "g/adversarial")
    return "  ".join(f"{name[0].upper()} {values[name]:.3f}" for name in names if name in values)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl."""
    return read_lines(run / "metrics.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a .jsonl file; a last line that a killed process cut short is left out."""
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
    """Draw what metrics.jsonl holds into curves.png: losses, logits, penalties, evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = read_metrics(run)
    panels = curve_panels(lines)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4 * len(panels), 3.4), layout="constrained"
    )
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        draw_panel(axis, title, names, lines)
    with atomic_file(run / "curves.png") as draft:
        figure.savefig(draft, dpi=90)
    pyplot.close(figure)


def curve_panels(lines: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Which names of metrics.jsonl share a plot, by its title."""
    panels = {
        "adversarial losses": ["d/adversarial", "g/adversarial"],
        "logits": ["d/real_logits", "d/fake_logits"],
        "squared slopes": ["d/r1", "d/r2"],
        "gradient norms": ["d/grad_norm", "g/grad_norm"],
    }
    measured = sorted({name for line in lines for name in line if name.startswith("evaluate/")})
    if measured:
        kinds = {name: kind for line in lines for name, kind in line.get("kinds", {}).items()}
        for kind in ("distance", "share", "score"):
            if names := [name for name in measured if kinds.get(name) == kind]:
                panels[f"{kind}s"] = names
    return panels


def draw_panel(axis: Any, title: str, names: list[str], lines: list[dict[str, Any]]) -> None:
    """One plot over the images seen."""
    for name in names:
        points = [(line["images_seen"], line[name]) for line in lines if line.get(name) is not None]
        if points:
            marker = "." if len(points) < FEW_POINTS else ""  # one alone makes no line
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1, marker=marker)
    axis.set(title=title, xlabel="images seen")
    if title in ("squared slopes", "gradient norms") and lines:
        axis.set_yscale("log")
    if axis.lines:
        axis.legend(frameon=False)
    axis.grid(alpha=0.2)
