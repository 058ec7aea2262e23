"""StyleGAN2's layers: equalized learning rate, modulated convolutions, minibatch deviation.

Source: StyleGAN2 (arXiv 1912.04958, v2), with its authors' PyTorch code; the deviation is that of
progressive growing (arXiv 1710.10196, v3). Weights are stored with unit variance and divided by the
square root of their fan-in as they act (1710.10196, section 4.1).
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.layers.resample import Resample, convolve
from scalegan.layers.transformer import float32_island


class ScaledLinear(nn.Module):
    """Affine map of unit-variance weights: what acts is weight * multiplier / sqrt(fan-in).

    Adam moves every stored number by about the learning rate, so what acts moves `multiplier`
    times slower (StyleGAN2, arXiv 1912.04958).

    Args:
        start: of the bias as it acts.
    """

    def __init__(
        self, inputs: int, outputs: int, multiplier: float = 1.0, start: float = 0.0
    ) -> None:
        super().__init__()
        self.multiplier = multiplier
        self.gain = multiplier / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), start / multiplier))

    def forward(self, x: Float[Tensor, "... A"]) -> Float[Tensor, "... B"]:
        return F.linear(x, self.weight * self.gain, self.bias * self.multiplier)


def leaky(x: Float[Tensor, "..."], gain: float = math.sqrt(2)) -> Float[Tensor, "..."]:
    """Leaky ReLU of slope 0.2; the square root of two keeps the variance about one."""
    return F.leaky_relu(x, 0.2) * gain


# w'_ijk = s_i w_ijk, w''_ijk = w'_ijk / sqrt(sum_ik w'_ijk^2 + 1e-8) (StyleGAN2, eqs. 1 and 3)
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


def minibatch_deviation(x: Float[Tensor, "N C H W"], group: int) -> Float[Tensor, "N B H W"]:
    """Append a channel: how much the images of a group differ (arXiv 1710.10196).

    Args:
        group: images that are compared; the largest divisor of N up to it. Image i is in group
            i modulo the number of groups.
    """
    size = next(size for size in range(min(group, len(x)), 0, -1) if len(x) % size == 0)
    groups = x.float().unflatten(0, (size, -1))  # (G, N / G, C, H, W)
    deviation = (groups.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (N / G,)
    channel = deviation.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel.to(x.dtype)], dim=1)
