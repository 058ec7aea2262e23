"""Images as pictures of a page: enlarged where they are tiny, reduced where they are large."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scalegan.interfaces import Images
from scalegan.pages.blocks import Picture
from scalegan.runtime.pictures import SMALLEST_CELL, grid, to_picture

LARGEST_CELL = 128
"""Larger images are reduced to this side, so that a page stays small enough to send."""
LARGEST_FILE = 300_000
"""Bytes of a file that is taken as it is."""
GAP = "#8a93a3"
"""Between images: neither white nor black, so that it suits both."""


def sheet(images: Images, columns: int, caption: str, file: str = "") -> Picture:
    """A grid of images."""
    side = images.shape[-1]
    if side > LARGEST_CELL:
        small = [to_picture(image).resize((LARGEST_CELL,) * 2, Image.Resampling.LANCZOS)
                 for image in images]  # fmt: skip
        images = torch.from_numpy(np.stack([np.asarray(image) for image in small]))
        images = images.permute(0, 3, 1, 2)
    return encoded(grid(images, columns, between=GAP), caption, side <= SMALLEST_CELL, file)


def encoded(picture: Image.Image, caption: str, is_exact: bool, file: str = "") -> Picture:
    """A picture as PNG where single pixels count, else as JPEG."""
    out = io.BytesIO()
    if is_exact:
        picture.save(out, "PNG", optimize=True)
    else:
        picture.convert("RGB").save(out, "JPEG", quality=88)
    kind = "image/png" if is_exact else "image/jpeg"
    return Picture(out.getvalue(), kind, caption, picture.width, file)


def from_file(path: Path, caption: str, file: str, width: int) -> Picture:
    """A PNG file that a run has left, reduced if it is large."""
    with Image.open(path) as picture:
        picture.load()
        if path.stat().st_size > LARGEST_FILE:
            picture.thumbnail((4 * width, 4 * width))
            return encoded(picture, caption, False, file)
    return Picture(path.read_bytes(), "image/png", caption, width, file)
