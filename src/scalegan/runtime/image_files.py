"""Images written as files: grids, single PNGs and arrays."""

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


def grid(images: UInt8[Tensor, "N 3 P P"], columns: int, between: str = "white") -> Image.Image:
    """Arrange images row by row in a grid with thin gaps, tiny ones enlarged without smoothing.

    Args:
        between: color of the gaps and of empty places.
    """
    side = images.shape[-1]
    scale = max(1, SMALLEST_CELL // side)
    cell = side * scale + 1
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * cell - 1, rows * cell - 1), between)
    for i, image in enumerate(images):
        tile = to_pil(image).resize((side * scale, side * scale), Image.Resampling.NEAREST)
        canvas.paste(tile, (i % columns * cell, i // columns * cell))
    return canvas


def write_images(
    batches: Iterable[UInt8[Tensor, "_ 3 P P"]], labels: Sequence[int], path: Path, columns: int
) -> None:
    """Write images as NAME.png (a grid), NAME.npz (arrays), or any other name (a folder of PNGs).

    An archive has `arr_0`, uint8 (N, P, P, 3), and `arr_1`, the labels. A folder's files are named
    by position and label, and are written as they come, so that there can be any number of them.
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
    """One image as a Pillow image."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def resized(images: UInt8[Tensor, "N 3 P P"], side: int) -> UInt8[Tensor, "N 3 R R"]:
    """Images resampled to another side in pixels by Pillow's Lanczos filter."""
    small = [to_pil(image).resize((side, side), Image.Resampling.LANCZOS) for image in images]
    return torch.from_numpy(np.stack([np.asarray(image) for image in small])).permute(0, 3, 1, 2)


def save_png(image: Image.Image, path: Path) -> None:
    """Write an image as a PNG file, which gets its name only once it is complete."""
    with atomic_file(path) as draft:
        image.save(draft, format="PNG")
