"""Layers and tables that plain transformers on images share.

n frequencies, G side of the token grid (T = G * G), R rotary angles per token.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """Gated feed-forward layer of floor(2/3 * ratio * width) hidden units (arXiv 2002.05202)."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(2 * ratio * width / 3)
        self.into = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N T D"]:
        gate, value = self.into(x).chunk(2, dim=-1)
        return self.out(F.silu(gate) * value)


class EqualizedLinear(nn.Linear):
    """Affine map whose weight and bias are stored 1/multiplier times larger than they act.

    Adam moves every stored number by about the learning rate, so what acts moves `multiplier`
    times slower. There is no 1/sqrt(fan-in): the start is Xavier's once the multiplier is applied.
    """

    multiplier = 0.01

    def forward(self, x: Float[Tensor, "... A"]) -> Float[Tensor, "... B"]:
        return F.linear(x, self.weight * self.multiplier, self.bias * self.multiplier)

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight, gain=1 / self.multiplier)
        nn.init.zeros_(self.bias)


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


def normalize_second_moment(x: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Scale to a mean square of one along `dim`."""
    return x * torch.rsqrt(x.square().mean(dim=dim, keepdim=True) + 1e-8)


def truncated_normal(z: Float[Tensor, "..."], threshold: float) -> Float[Tensor, "..."]:
    """Normal noise made to lie within +-threshold > 0; what does already stays as it is.

    What lies beyond is redrawn, as a function of itself: given |z| > t, the share of the tail that
    lies beyond |z| is uniform, and it becomes a quantile of the truncated normal.
    """
    tail = torch.special.ndtr(torch.tensor(-threshold, dtype=torch.float64, device=z.device))
    uniform = torch.special.ndtr(-z.double().abs()) / tail
    redrawn = torch.special.ndtri(tail + uniform * (1 - 2 * tail))
    return torch.where(z.abs() > threshold, redrawn.to(z.dtype), z)


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


def float32_island(device: torch.device) -> AbstractContextManager[None]:
    """Where autocast is off, for what must not be rounded to 16 bits."""
    if device.type == "meta":  # shapes alone know no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def position_table(width: int, grid: int) -> Float[Tensor, "T D"]:
    """Sines and cosines of the column, then of the row (the start of DiT's and MAE's table).

    Args:
        width: channels, a multiple of four.
        grid: side of the token grid.
    """
    frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = _coordinates(grid)
    angles = [column[:, None] * frequencies, row[:, None] * frequencies]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1).float()


def rotary_table(head_width: int, grid: int) -> Float[Tensor, "T R 2"]:
    """Axial rotary angles as (cosine, sine): half of them turn with the row, half with the column.

    Args:
        head_width: channels of one attention head, a multiple of four; R is half of it.
        grid: side of the token grid.
    """
    exponents = torch.arange(head_width // 4, dtype=torch.float32) / (head_width // 4)
    frequencies = 10000**-exponents
    row, column = _coordinates(grid)
    angles = torch.cat(
        [row.float()[:, None] * frequencies, column.float()[:, None] * frequencies], 1
    )
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def direction_table(width: int, grid: int, directions: int = 2) -> Float[Tensor, "T D"]:
    """Sines and cosines of the distance along evenly turned directions, row by row.

    Coordinates run from -1 to 1, neither times pi nor times the side (GANsformer), so that only the
    first few frequencies vary noticeably.

    Args:
        width: channels, a multiple of 2 * directions.
        grid: side of the grid.
        directions: 2 = along the columns, then along the rows.
    """
    count = width // (2 * directions)
    frequencies = 10000 ** -(torch.arange(count, dtype=torch.float64) / count)
    steps = torch.linspace(-1, 1, grid, dtype=torch.float64)
    row, column = steps.repeat_interleave(grid), steps.repeat(grid)
    parts = []
    for i in range(directions):
        turn = math.pi * i / directions
        distance = math.cos(turn) * column + math.sin(turn) * row
        angles = distance[:, None] * frequencies
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1).float()


def _coordinates(grid: int) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
    """Row and column of every token, row by row."""
    steps = torch.arange(grid, dtype=torch.float64)
    return steps.repeat_interleave(grid), steps.repeat(grid)


def unpatchify(x: Float[Tensor, "N T F"], patch: int) -> Float[Tensor, "N C H W"]:
    """Lay tokens back into an image; a token's features are (row, column, channel) of its patch."""
    grid = math.isqrt(x.shape[1])
    x = x.unflatten(1, (grid, grid)).unflatten(-1, (patch, patch, -1))  # (N, G, G, p, p, C)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def to_map(x: Float[Tensor, "N T D"]) -> Float[Tensor, "N D G G"]:
    """Tokens, row by row, as a square map."""
    grid = math.isqrt(x.shape[1])
    return x.mT.unflatten(2, (grid, grid))


def to_tokens(x: Float[Tensor, "N D G G"]) -> Float[Tensor, "N T D"]:
    """A square map as tokens, row by row."""
    return x.flatten(2).mT
