"""Resampling of maps with one small filter, and convolutions that resample.

Source: StyleGAN2 (arXiv 1912.04958, v2), with the padding of its authors' PyTorch code. The filter
is [1, 3, 3, 1] along both axes. All of it is ordinary operations, so that second derivatives exist.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Resample = Literal["", "up", "down"]
"""Doubles the side, halves it, or neither."""


def taps(x: Tensor) -> Float[Tensor, "4 4"]:
    """The filter, of sum 1; made where `x` is, because a copy would wait for the device."""
    row = (2 - (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()) / 4  # 1, 3, 3, 1
    return torch.outer(row, row)


def smooth(
    x: Float[Tensor, "N C H W"], padding: int, stride: int = 1
) -> Float[Tensor, "N C H2 W2"]:
    """Filter every channel, then keep every `stride`-th row and column."""
    weight = taps(x).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, weight, stride=stride, padding=padding, groups=x.shape[1])


def upsample(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H2 W2"]:
    """Double the side: zeros between the pixels, then the filter with a gain of 4."""
    weight = (4 * taps(x)).expand(x.shape[1], 1, 4, 4)
    return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=x.shape[1])


def downsample(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H2 W2"]:
    """Halve the side: the filter, then every second row and column."""
    return smooth(x, padding=1, stride=2)


def convolve(
    x: Float[Tensor, "N C H W"], weight: Float[Tensor, "B C k k"], resample: Resample = ""
) -> Float[Tensor, "N B H2 W2"]:
    """Convolve with a 1x1 or 3x3 kernel, resampling on the way.

    A 3x3 kernel that doubles the side acts mirrored, being that of a transposed convolution.
    """
    side = weight.shape[-1]
    if resample == "up" and side == 1:
        return upsample(F.conv2d(x, weight))
    if resample == "up":
        return 4 * smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1)
    if resample == "down" and side == 1:
        return F.conv2d(downsample(x), weight)
    if resample == "down":
        return F.conv2d(smooth(x, padding=2), weight, stride=2)
    return F.conv2d(x, weight, padding=side // 2)
