"""Images as files for people: grids and single PNGs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from scalegan.runtime.files import atomic_file

SMALLEST_CELL = 48
"""Smaller images are enlarged in grids, without smoothing, so that one can see them."""


def grid(
    images: UInt8[Tensor, "N 3 P P"], columns: int, gap: int = 1, between: str = "white"
) -> Image.Image:
    """Images row by row in a grid with thin gaps of some color."""
    side = images.shape[-1]
    scale = max(1, SMALLEST_CELL // side)
    cell = side * scale + gap
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell - gap, rows * cell - gap), between)
    for i, image in enumerate(images):
        tile = to_pil(image).resize((side * scale, side * scale), Image.Resampling.NEAREST)
        sheet.paste(tile, (i % columns * cell, i // columns * cell))
    return sheet


def write(
    batches: Iterable[UInt8[Tensor, "_ 3 P P"]], labels: Sequence[int], path: Path, columns: int
) -> None:
    """Write images: NAME.png a grid, NAME.npz arrays, anything else a folder of PNGs.

    An archive has `arr_0`, uint8 (N, P, P, 3), and `arr_1`, the labels. A folder's files are named
    by position and label and are written as they come, so that their number is no matter.
    """
    if path.suffix not in (".png", ".npz"):
        path.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(image for batch in batches for image in batch):
            save_png(to_pil(image), path / f"{i:06d}-{labels[i]}.png")
        return
    images = torch.cat(list(batches))
    if path.suffix == ".png":
        save_png(grid(images, columns), path)
        return
    with atomic_file(path) as draft:
        np.savez(draft, images.permute(0, 2, 3, 1).numpy(), np.asarray(labels, dtype=np.int64))


def to_pil(image: UInt8[Tensor, "3 P P"]) -> Image.Image:
    """One image (3, P, P) as a image."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def save_png(image: Image.Image, path: Path) -> None:
    with atomic_file(path) as draft:
        image.save(draft, format="PNG")
