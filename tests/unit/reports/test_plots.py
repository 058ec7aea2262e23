"""Plots and grids, as they stand in the page."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image

from scalegan.reports.plots import INK, Point, Series, curves, in_a_file, lines, trade
from scalegan.reports.sheets import LARGEST_CELL, LARGEST_FILE, from_file, sheet

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


def test_curves_draw_what_there_is() -> None:
    assert curves([]) == []
    plots = curves(LINES)
    assert [plot.caption for plot in plots] == ["adversarial losses", "squared slopes"]
    assert "g/adversarial" not in plots[0].svg
    for plot in plots:
        ElementTree.fromstring(plot.svg)
        assert INK not in plot.svg and "currentColor" in plot.svg and "<metadata" not in plot.svg
    ids = [name for plot in plots for name in re.findall(r'\bid="([^"]+)"', plot.svg)]
    assert len(ids) == len(set(ids)), "several drawings stand on one page"
    for plot in plots:
        used = re.findall(r'(?:url\(|href=")#([^")]+)', plot.svg)
        assert used and set(used) <= set(ids)


def test_points_have_their_labels() -> None:
    plot = trade([Point(1, 2, "0.5"), Point(2, 1, "none")], "recall", "precision & $x^", "a < b")
    assert ">0.5</text>" in plot.svg and ">none</text>" in plot.svg
    assert "precision &amp; $x^" in plot.svg


def test_tiny_images_are_enlarged_exactly_and_large_ones_reduced() -> None:
    tiny = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    found = sheet(tiny, 2, "tiny")
    image = Image.open(io.BytesIO(found.data))
    assert found.media_type == "image/png" and found.width == image.width == 2 * 48 + 1
    assert image.getpixel((50, 3)) == tuple(tiny[1, :, 0, 0].tolist())
    large = sheet(torch.zeros(4, 3, 512, 512, dtype=torch.uint8), 2, "large")
    assert large.media_type == "image/jpeg" and large.width == 2 * LARGEST_CELL + 1


def test_large_files_are_reduced(tmp_path: Path) -> None:
    noise = torch.randint(0, 256, (1200, 1200, 3), dtype=torch.uint8).numpy()
    path = tmp_path / "grid.png"
    Image.fromarray(noise).save(path)
    found = from_file(path, "grid", "grid.png", 100)
    assert path.stat().st_size > LARGEST_FILE > len(found.data)
    Image.fromarray(noise[:50, :50]).save(path)
    assert from_file(path, "grid", "grid.png", 100).data == path.read_bytes()


def test_lines_of_one_label_share_a_color_and_a_line_in_the_legend() -> None:
    series = [Series("one", [(0, 1), (1, 900)]), Series("one", [(0, 2)]), Series("two", [(0, 3)])]
    plot = lines(series, "seconds", "FD", "FD by seconds")
    ElementTree.fromstring(plot.svg)
    assert plot.svg.count(">one<") == plot.svg.count(">two<") == 1
    assert len(set(re.findall(r"stroke: (#[0-9a-f]{6})", plot.svg))) == 2
    assert ">100<" in plot.svg, "values of several magnitudes stand on a logarithmic axis"
    assert "currentColor" not in in_a_file(plot)
