"""Grids of images as figures of a page: enlarged where images are tiny, reduced where large."""

import io
from pathlib import Path

from PIL import Image

from scalegan.interfaces import Images
from scalegan.reports.page import Figure
from scalegan.runtime.image_files import SMALLEST_CELL, grid, resized

LARGEST_CELL = 128
"""Larger images are reduced to this side in pixels, so that a page stays small enough to send."""
LARGEST_FILE = 300_000
"""Bytes of a file that is taken as it is."""
GAP = "#8a93a3"
"""Between images: neither white nor black, so that it suits both."""


def grid_figure(images: Images, columns: int, caption: str, file: str = "") -> Figure:
    """Images row by row in a grid, as a figure."""
    is_exact = images.shape[-1] <= SMALLEST_CELL
    if images.shape[-1] > LARGEST_CELL:
        images = resized(images, LARGEST_CELL)
    return encode_figure(grid(images, columns, between=GAP), caption, is_exact, file)


def encode_figure(image: Image.Image, caption: str, is_exact: bool, file: str = "") -> Figure:
    """An image as PNG where single pixels count, else as JPEG."""
    out = io.BytesIO()
    if is_exact:
        image.save(out, "PNG", optimize=True)
    else:
        image.convert("RGB").save(out, "JPEG", quality=88)
    kind = "image/png" if is_exact else "image/jpeg"
    return Figure(out.getvalue(), kind, caption, image.width, file)


def file_figure(path: Path, caption: str, file: str, width: int) -> Figure:
    """A PNG file as a figure, reduced if the file is large.

    Args:
        file: where it is, seen from the page.
        width: in pixels, at most to be shown in.
    """
    if path.stat().st_size <= LARGEST_FILE:
        return Figure(path.read_bytes(), "image/png", caption, width, file)
    with Image.open(path) as image:
        image.thumbnail((4 * width, 4 * width))
        return encode_figure(image, caption, False, file)


def sample_grids(run: Path) -> dict[int, Path]:
    """The grids of samples that a run has left while it trained, by step."""
    paths = sorted((run / "samples").glob("step-*.png"))
    return {int(path.stem.removeprefix("step-")): path for path in paths}
