"""Plots as inline SVG that take the page's color, so that one drawing suits light and dark."""

import io
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from scalegan.reports.page import Plot
from scalegan.runtime.log import curve_panels, draw_panel

INK = "#010203"
"""Stands for whatever color the page's text has."""
COLORS = ["#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#0ea5b7"]
"""Of curves: readable on white and on black."""
SIZE = (4.4, 3.1)


class Series(NamedTuple):
    """Points joined by a line."""

    label: str
    """Series of one label share a color, and a line in the legend."""
    points: Sequence[tuple[float, float]]


class Point(NamedTuple):
    """A mark in a plot, and what is written beside it."""

    x: float
    y: float
    label: str


def curves(lines: list[dict[str, Any]]) -> list[Plot]:
    """What metrics.jsonl holds, a plot for each kind of value that is there twice or more."""
    plots = []
    for title, names in curve_panels(lines).items():
        known = [n for n in names if sum(line.get(n) is not None for line in lines) > 1]
        if known:
            plots.append(Plot(_drawn(title, partial(_panel, title, known, lines)), title))
    return plots


def _panel(title: str, names: list[str], lines: list[dict[str, Any]], axis: Any) -> None:
    draw_panel(axis, title, names, lines)
    axis.set(title="")  # it stands below, in the page's own text


def trade(points: Sequence[Point], x_label: str, y_label: str, caption: str) -> Plot:
    """One number against another along a way of settings, each with its label."""

    def draw(axis: Any) -> None:
        axis.plot([p.x for p in points], [p.y for p in points], marker="o", linewidth=1)
        for point in points:
            axis.annotate(
                point.label, (point.x, point.y), xytext=(6, 5), textcoords="offset points",
                fontsize=9,
            )  # fmt: skip
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.margins(0.12)
        axis.grid(alpha=0.2)

    return Plot(_drawn(f"{x_label}-{y_label}", draw), caption)


def lines(series: Sequence[Series], x_label: str, y_label: str, caption: str) -> Plot:
    """One number along another, for several things that are compared."""
    labels = list(dict.fromkeys(one.label for one in series))

    def draw(axis: Any) -> None:
        shown: set[str] = set()
        for label, points in series:
            text = "_" if label in shown else label  # matplotlib leaves out what begins so
            color = COLORS[labels.index(label) % len(COLORS)]
            x, y = zip(*points, strict=True)
            axis.plot(x, y, color=color, marker=".", linewidth=1, label=text)
            shown.add(label)
        values = [y for _, points in series for _, y in points]
        if min(values) > 0 and max(values) > 10 * min(values):
            axis.set_yscale("log")
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.grid(alpha=0.2)
        axis.legend(frameon=False, fontsize=8)

    return Plot(_drawn(f"{y_label}-{x_label}", draw), caption)


def in_a_file(plot: Plot) -> str:
    """Its SVG for a file of its own, where there is no text whose color it could take."""
    return plot.svg.replace("currentColor", "#7a8494")


def _drawn(name: str, draw: Callable[[Any], None]) -> str:
    """A figure with one plot as the text of an SVG element."""
    import matplotlib
    from matplotlib import ticker
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color",
             "grid.color", "legend.labelcolor")  # fmt: skip
    style: Any = {
        **dict.fromkeys(inked, INK),
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "axes.prop_cycle": f"cycler(color={COLORS})",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "font.size": 10,
        "svg.fonttype": "none",  # text stays text, in the page's font
        "svg.hashsalt": name,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        axis = figure.subplots()
        draw(axis)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
        if axis.get_yscale() == "log":  # powers would be formulas, which names must not be
            axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = text.replace(INK, "currentColor")
    # Several drawings on one page must not share names.
    prefix = re.sub(r"\W+", "-", name)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", text).strip()
