"""Images as images of a page: enlarged where they are tiny, reduced where they are large."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scalegan.interfaces import Images
from scalegan.reports.page import Figure
from scalegan.runtime.image_files import SMALLEST_CELL, grid, to_pil

LARGEST_CELL = 128
"""Larger images are reduced to this side, so that a page stays small enough to send."""
LARGEST_FILE = 300_000
"""Bytes of a file that is taken as it is."""
GAP = "#8a93a3"
"""Between images: neither white nor black, so that it suits both."""


def sheet(images: Images, columns: int, caption: str, file: str = "") -> Figure:
    """A grid of images."""
    side = images.shape[-1]
    if side > LARGEST_CELL:
        small = [to_pil(image).resize((LARGEST_CELL,) * 2, Image.Resampling.LANCZOS)
                 for image in images]  # fmt: skip
        images = torch.from_numpy(np.stack([np.asarray(image) for image in small]))
        images = images.permute(0, 3, 1, 2)
    return encoded(grid(images, columns, between=GAP), caption, side <= SMALLEST_CELL, file)


def encoded(image: Image.Image, caption: str, is_exact: bool, file: str = "") -> Figure:
    """A image as PNG where single pixels count, else as JPEG."""
    out = io.BytesIO()
    if is_exact:
        image.save(out, "PNG", optimize=True)
    else:
        image.convert("RGB").save(out, "JPEG", quality=88)
    kind = "image/png" if is_exact else "image/jpeg"
    return Figure(out.getvalue(), kind, caption, image.width, file)


def from_file(path: Path, caption: str, file: str, width: int) -> Figure:
    """A PNG file that a run has left, reduced if it is large."""
    with Image.open(path) as image:
        image.load()
        if path.stat().st_size > LARGEST_FILE:
            image.thumbnail((4 * width, 4 * width))
            return encoded(image, caption, False, file)
    return Figure(path.read_bytes(), "image/png", caption, width, file)
