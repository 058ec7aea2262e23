"""From samples in [-1, 1] to eight bits: metrics are defined on those.

The rules differ on ties, and truncation darkens by half a level; a rule is part of a protocol. All
clamp before the cast, for 256 and -1 would wrap around. The nearest level is found in float64, the
others in float32 like their originals, which decides ties.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def nearest(samples: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """To the nearest level, ties to the even one: the rule to use."""
    return (samples.double().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def half_up(samples: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Truncate x * 127.5 + 128: the StyleGAN family, DiT, GAT's evaluation during training."""
    return (samples.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def half_up_grid(samples: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Truncate 255 * (x + 1) / 2 + 0.5: StudioGAN, writers of image grids."""
    return ((samples.float() + 1) / 2 * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def truncate(samples: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Truncate (x + 1) * 127.5: ADM's sampling script, and GAT's."""
    return ((samples.float() + 1) * 127.5).clamp(0, 255).to(torch.uint8)


RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "nearest": nearest,
    "half-up": half_up,
    "half-up-grid": half_up_grid,
    "truncate": truncate,
}
"""By the name that a protocol records."""
