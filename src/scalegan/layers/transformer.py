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


def normalize_second_moment(x: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Scale to a mean square of one along `dim`."""
    return x * torch.rsqrt(x.square().mean(dim=dim, keepdim=True) + 1e-8)


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
