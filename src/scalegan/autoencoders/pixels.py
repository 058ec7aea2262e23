"""The autoencoder of pixel GANs: samples are the images themselves.

Every autoencoder stands between images (uint8, three channels) and samples (float, about unit
scale) with what is stored in between; see `interfaces.Autoencoder`.
"""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from scalegan.config.schema import AutoencoderConfig
from scalegan.interfaces import Images, Samples, Stored


class Identity:
    """Pixels in [-1, 1]; gray images have one channel here and three equal ones outside.

    Args:
        channels: 1 (gray) or 3 (RGB); more for latents that came without their autoencoder, of
            which `decode` shows the first three channels as they are.
        side: side of the image in pixels.
    """

    def __init__(self, channels: int, side: int) -> None:
        self.shape = (channels, side, side)

    def encode(self, images: Images) -> Stored:
        """Keep the pixels; color becomes gray by its luma (ITU-R BT.601), gray stays exact."""
        return images if self.shape[0] == 3 else to_gray(images)

    def sample(self, stored: Stored) -> Samples:
        return stored.float() / 127.5 - 1

    def decode(self, samples: Samples) -> Images:
        """Round to the nearest of 256 values, so that `decode(sample(stored))` is exact."""
        images = ((samples.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return images[:, :3].expand(-1, 3, -1, -1)

    def identity(self) -> dict[str, Any]:
        return {"kind": "identity", "channels": self.shape[0], "factor": 1}


def identity(_: AutoencoderConfig, channels: int, side: int) -> Identity:
    """Samples are the pixels."""
    return Identity(channels, side)


def to_gray(images: Images) -> UInt8[Tensor, "N 1 P P"]:
    """The luma of colors (ITU-R BT.601), rounded; gray stays exact."""
    weights = torch.tensor([299, 587, 114], device=images.device).view(3, 1, 1)
    return ((images * weights).sum(dim=1, keepdim=True) + 500).div(1000).to(torch.uint8)
