"""Moving average of the generator: the network that is sampled."""

import torch
from torch import nn


@torch.no_grad()
def update_average(
    average: nn.Module, network: nn.Module, decay: float, with_buffers: bool = False
) -> None:
    """Move the average's parameters towards the network's; copy the buffers.

    Args:
        decay: what stays of the average; 0 makes it a copy.
        with_buffers: average the buffers too (BigGAN: batch statistics, spectral-norm vectors).
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        if with_buffers and mine.is_floating_point():
            mine.lerp_(other, 1 - decay)
        else:
            mine.copy_(other)
