"""Plots as inline SVG, in the color of the page's text, so that they suit light and dark pages."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from scalegan.evaluation.measure import Kind
from scalegan.reports.page import Plot
from scalegan.train.curves import curve_panels, draw_panel

INK = "#010203"
"""Stands for the color of the page's text while matplotlib draws."""
COLORS = ["#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#0ea5b7"]
"""Of curves: readable on white and on black."""
STYLE: dict[str, Any] = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "legend.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.prop_cycle": f"cycler(color={COLORS})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text, in the page's font
    "text.parse_math": False,
}
NO_METADATA = dict.fromkeys(["Creator", "Date", "Format", "Type"])


class Series(NamedTuple):
    """Points joined by a line."""

    label: str
    """Series of one label share a color, and a line in the legend."""
    points: Sequence[tuple[float, float]]


def training_curves(lines: list[dict[str, Any]], kinds: Mapping[str, Kind]) -> list[Plot]:
    """What metrics.jsonl holds, a plot for each kind of value that is there twice or more.

    Args:
        lines: of metrics.jsonl.
        kinds: of its metrics: see `train.curves.curve_panels`.
    """
    plots = []
    for title, names in curve_panels(lines, kinds).items():
        known = [n for n in names if sum(line.get(n) is not None for line in lines) > 1]
        if known:
            draw = partial(draw_panel, title=title, names=known, lines=lines)
            plots.append(Plot(svg_of(title, draw), title))
    return plots


def trade_off(
    points: Mapping[str, tuple[float, float]], x_label: str, y_label: str, caption: str
) -> Plot:
    """One metric against another along the values of a setting, each point with its label."""

    def draw(axis: Axes) -> None:
        axis.plot(*zip(*points.values(), strict=True), marker="o", linewidth=1)
        for label, point in points.items():
            axis.annotate(label, point, (6, 5), textcoords="offset points", fontsize=9)
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.margins(0.12)
        axis.grid(alpha=0.2)

    return Plot(svg_of(f"{x_label}-{y_label}", draw), caption)


def line_plot(series: Sequence[Series], x_label: str, y_label: str, caption: str) -> Plot:
    """One value along another, for several things that are compared."""
    labels = list(dict.fromkeys(one.label for one in series))

    def draw(axis: Axes) -> None:
        for label, points in series:
            color = COLORS[labels.index(label) % len(COLORS)]
            axis.plot(*zip(*points, strict=True), color=color, marker=".", linewidth=1, label=label)
        values = [y for _, points in series for _, y in points]
        if min(values) > 0 and max(values) > 10 * min(values):
            axis.set_yscale("log")
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.grid(alpha=0.2)
        handles, texts = axis.get_legend_handles_labels()
        by_label = dict(zip(texts, handles, strict=True))
        axis.legend(by_label.values(), by_label.keys(), frameon=False, fontsize=8)

    return Plot(svg_of(f"{y_label}-{x_label}", draw), caption)


def standalone_svg(plot: Plot) -> str:
    """A plot's SVG for a file of its own, where there is no text whose color it could take."""
    return plot.svg.replace("currentColor", "#7a8494")


def svg_of(name: str, draw: Callable[[Axes], None]) -> str:
    """A figure with one plot as the text of an SVG element.

    Args:
        name: unique on a page; all that the SVG refers to is named after its hash.
        draw: draws into the figure's only axes.
    """
    style: Any = STYLE | {"svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Drawing(figsize=(4.4, 3.1), layout="constrained")
        axis = figure.subplots()
        draw(axis)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
        if axis.get_yscale() == "log":  # powers would be formulas, which names must not be
            axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    _, start, rest = file.getvalue().partition("<svg")  # without the head of an XML file
    return (start + rest).replace(INK, "currentColor")
