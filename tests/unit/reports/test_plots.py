"""Plots, as they stand in the page."""

import re
from xml.etree import ElementTree

from scalegan.reports.page import Plot
from scalegan.reports.plots import (
    INK,
    Series,
    line_plot,
    standalone_svg,
    trade_off,
    training_curves,
)

LINES = [
    {
        "step": i,
        "images_seen": 16 * i,
        "d/r1": 10.0**-i,
        "d/adversarial": 1.0,
        "g/adversarial": None,
    }
    for i in range(1, 4)
]


def referred(plot: Plot) -> set[str]:
    """Names of what an SVG element refers to within its document."""
    return set(re.findall(r'(?:url\(|href=")#([^")]+)', plot.svg))


def test_curves_draw_what_there_is() -> None:
    assert training_curves([], {}) == []
    plots = training_curves(LINES, {})
    assert [plot.caption for plot in plots] == ["adversarial losses", "squared slopes"]
    assert "g/adversarial" not in plots[0].svg
    for plot in plots:
        ElementTree.fromstring(plot.svg)
        assert INK not in plot.svg and "currentColor" in plot.svg and "<metadata" not in plot.svg


def test_several_plots_on_one_page_refer_to_their_own_parts() -> None:
    first, second = training_curves(LINES, {})
    for plot in (first, second):
        assert referred(plot) and referred(plot) <= set(re.findall(r'\bid="([^"]+)"', plot.svg))
    assert not referred(first) & referred(second)


def test_points_have_their_labels() -> None:
    plot = trade_off(
        {"0.5": (1.0, 2.0), "none": (2.0, 1.0)},
        "recall",
        "precision & $x^",
        "a < b",
    )
    assert ">0.5</text>" in plot.svg and ">none</text>" in plot.svg
    assert "precision &amp; $x^" in plot.svg


def test_lines_of_one_label_share_a_color_and_a_line_in_the_legend() -> None:
    series = [Series("one", [(0, 1), (1, 900)]), Series("one", [(0, 2)]), Series("two", [(0, 3)])]
    plot = line_plot(series, "seconds", "FD", "FD by seconds")
    ElementTree.fromstring(plot.svg)
    assert plot.svg.count(">one<") == plot.svg.count(">two<") == 1
    assert len(set(re.findall(r"stroke: (#[0-9a-f]{6})", plot.svg))) == 2
    assert ">100<" in plot.svg, "values of several magnitudes stand on a logarithmic axis"
    assert "currentColor" not in standalone_svg(plot)
