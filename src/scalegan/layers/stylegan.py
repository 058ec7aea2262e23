"""Resampling of maps with one small filter, and convolutions that resample or are modulated.

Source: StyleGAN2 (arXiv 1912.04958), with the padding of its authors' PyTorch code. The filter is
[1, 3, 3, 1] along both axes. All of it is ordinary operations, so that second derivatives exist.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.layers.transformer import ScaledLinear, float32_island, leaky

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


def modulated_convolve(
    x: Float[Tensor, "N C H W"],
    weight: Float[Tensor, "B C k k"],
    style: Float[Tensor, "N C"],
    resample: Resample = "",
    demodulate: bool = True,
) -> Float[Tensor, "N B H2 W2"]:
    """Convolve each sample with its own kernel: input channels scaled by its style.

    Activations are scaled instead of kernels, which is the same and needs no grouped convolution.

    Args:
        demodulate: scale each sample's kernel to norm 1 per output channel.
    """
    x = convolve(x * style[:, :, None, None], weight, resample)
    if demodulate:
        with float32_island(x.device):  # a sum of squares, too coarse in 16 bits
            squares = weight.float().square().sum(dim=(2, 3))  # (B, C)
            scale = torch.rsqrt(style.float().square() @ squares.mT + 1e-8)  # (N, B)
        x = x * scale[:, :, None, None].to(x.dtype)
    return x


class ScaledConv(nn.Module):
    """Convolution of unit-variance weights, divided by sqrt(fan-in) as they act; bias, leaky ReLU.

    Args:
        is_linear: neither bias nor activation.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        resample: Resample = "",
        is_linear: bool = False,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.gain = 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = None if is_linear else nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N B H2 W2"]:
        x = convolve(x, self.weight * self.gain, self.resample)
        return x if self.bias is None else leaky(x + self.bias[:, None, None])


class StyledConv(nn.Module):
    """Convolution whose kernel a style modulates, without activation.

    Args:
        style: channels of the style; 0 = a plain convolution.
        is_image: not demodulated, and with a bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style: int,
        resample: Resample = "",
        is_image: bool = False,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.gain = 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.affine = ScaledLinear(style, inputs, start=1.0) if style else None
        self.bias = nn.Parameter(torch.zeros(outputs)) if is_image else None

    def forward(
        self, x: Float[Tensor, "N C H W"], w: Float[Tensor, "N D"]
    ) -> Float[Tensor, "N B H2 W2"]:
        if self.affine is None:
            x = convolve(x, self.weight * self.gain, self.resample)
        elif self.bias is None:  # demodulation undoes any gain
            x = modulated_convolve(x, self.weight, self.affine(w), self.resample)
        else:
            x = modulated_convolve(x, self.weight, self.affine(w) * self.gain, "", demodulate=False)
        return x if self.bias is None else x + self.bias[:, None, None]


class HalvingBlock(nn.Module):
    """Two convolutions, the second of which halves the side; StyleGAN2's discriminator block."""

    def __init__(self, inputs: int, outputs: int, is_residual: bool) -> None:
        super().__init__()
        self.first = ScaledConv(inputs, inputs, 3)
        self.second = ScaledConv(inputs, outputs, 3, "down")
        self.skip = ScaledConv(inputs, outputs, 1, "down", is_linear=True) if is_residual else None

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N B H2 W2"]:
        y = self.second(self.first(x))
        return y if self.skip is None else (y + self.skip(x)) * math.sqrt(0.5)
