"""Curves of a run over the images seen: losses, logits, penalties, gradients and evaluations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scalegan.evaluation.measure import Kind
from scalegan.evaluation.results import recorded
from scalegan.runtime.files import atomic_file
from scalegan.runtime.log import read_metrics

EVALUATED = "evaluate/"
"""How names of metrics begin in metrics.jsonl."""
PANELS = {
    "adversarial losses": ["d/adversarial", "g/adversarial"],
    "logits": ["d/real_logits", "d/fake_logits"],
    "squared slopes": ["d/r1", "d/r2"],
    "gradient norms": ["d/grad_norm", "g/grad_norm"],
}
"""Values of training that share a plot, by its title."""
LOGARITHMIC = ("squared slopes", "gradient norms")
METRIC_PANELS: dict[Kind | None, str] = {
    "distance": "distances",
    "share": "shares",
    "score": "scores",
    None: "other metrics",
}
"""Titles of plots of metrics, by their kind; None = it is not known."""
FEW_POINTS = 20
"""Shorter curves have a mark at each point."""


def plot_curves(run: Path) -> None:
    """Draw what a run's metrics.jsonl holds into its curves.png."""
    lines = read_metrics(run)
    panels = curve_panels(lines, metric_kinds(run))
    figure = Figure(figsize=(4 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels))
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        draw_panel(axis, title, names, lines)
        axis.set_title(title)
    with atomic_file(run / "curves.png") as draft:
        figure.savefig(draft, dpi=90)


def metric_kinds(run: Path) -> dict[str, Kind]:
    """The kind of each metric that a run has evaluated last, by its name in metrics.jsonl."""
    return {EVALUATED + number.name: number.kind for number in recorded(run)}


def curve_panels(lines: list[dict[str, Any]], kinds: Mapping[str, Kind]) -> dict[str, list[str]]:
    """Which names of metrics.jsonl share a plot, by its title.

    Args:
        lines: of metrics.jsonl.
        kinds: of metrics by their names in these lines; those of unknown kind share a plot.
    """
    panels = {title: list(names) for title, names in PANELS.items()}
    metrics = sorted({name for line in lines for name in line if name.startswith(EVALUATED)})
    for kind, title in METRIC_PANELS.items():
        if names := [name for name in metrics if kinds.get(name) == kind]:
            panels[title] = names
    return panels


def draw_panel(axis: Axes, title: str, names: list[str], lines: list[dict[str, Any]]) -> None:
    """Draw the values of some names over the images seen, as a plot of that title has them."""
    for name in names:
        points = [(line["images_seen"], line[name]) for line in lines if line.get(name) is not None]
        if points:
            marker = "." if len(points) < FEW_POINTS else ""  # one alone makes no line
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1, marker=marker)
    axis.set_xlabel("images seen")
    if title in LOGARITHMIC and lines:
        axis.set_yscale("log")
    if axis.lines:
        axis.legend(frameon=False)
    axis.grid(alpha=0.2)
