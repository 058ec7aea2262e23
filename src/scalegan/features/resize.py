"""The ways in which images are brought to the side that a feature network expects.

Each is part of a metric's definition: numbers from different ones are not comparable. All stretch
to a square and give floats in 0..255 (bicubic ones may leave that range where it is said).
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

Images = UInt8[Tensor, "N 3 H W"]
Resized = Float[Tensor, "N 3 Q Q"]


def tf1_bilinear(images: Images, side: int) -> Resized:
    """TensorFlow 1: source coordinate i * in / out, no antialias, edges repeated, not rounded.

    The input of FID's Inception (original FID, ADM, torch-fidelity, the StyleGAN family).
    """
    x = images.float()
    for axis in (2, 3):
        length = x.shape[axis]
        # In float32 like TensorFlow, whose rounding of coordinates is part of the definition.
        scale = torch.tensor(length, dtype=torch.float32) / side
        source = torch.arange(side, dtype=torch.float32) * scale
        low = source.floor()
        share = (source - low).to(x.device)
        share = share[:, None] if axis == 2 else share
        low = low.long().clamp(max=length - 1).to(x.device)
        below = x.index_select(axis, low)
        above = x.index_select(axis, (low + 1).clamp(max=length - 1))
        x = below + (above - below) * share
    return x


def halfpixel_bilinear(images: Images, side: int) -> Resized:
    """Half-pixel centers, no antialias, not rounded (pytorch-fid)."""
    return F.interpolate(images.float(), size=(side, side), mode="bilinear", align_corners=False)


def clean_bicubic(images: Images, side: int) -> Resized:
    """Pillow's antialiased bicubic, each channel as float32, clipped, not rounded (clean-fid)."""
    resized = [
        [_pillow(Image.fromarray(channel), side) for channel in image]
        for image in images.cpu().float().numpy()
    ]
    return torch.from_numpy(np.array(resized)).clamp(0, 255).to(images.device)


FILTERS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "tf1-bilinear": tf1_bilinear,
    "halfpixel-bilinear": halfpixel_bilinear,
    "clean-bicubic": clean_bicubic,
}
"""By the name that a protocol records."""


def _pillow(image: Image.Image, side: int) -> np.ndarray:
    """Pillow 13's order of the two passes, made explicit: before 13 rows always came first.

    Sums in another order differ in their last bits; of squares it is the same in all versions.
    """
    width, height = image.size
    is_vertical_first = height > side and height - side > 2 * (width - side)
    between = (width, side) if is_vertical_first else (side, height)
    image = image.resize(between, Image.Resampling.BICUBIC)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
