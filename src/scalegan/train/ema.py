"""Moving average of the generator: the network that is sampled."""

from typing import Literal

import torch
from torch import nn


@torch.no_grad()
def update_average(
    average: nn.Module,
    network: nn.Module,
    decay: float,
    buffers: Literal["copy", "average"] = "copy",
) -> None:
    """Move the average's parameters towards the network's, and copy or move its buffers.

    Args:
        decay: 0 = the network itself.
        buffers: running statistics that are averaged lag like the weights they belong to (BigGAN);
            counters are copied in either case.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        if buffers == "average" and mine.is_floating_point():
            mine.lerp_(other, 1 - decay)
        else:
            mine.copy_(other)
