"""Optimizers, the width-aware learning rate, and the moving average of the generator."""

from typing import Literal

import torch
from torch import nn

from scalegan.config.schema import Config


def learning_rate(name: str, config: Config) -> float:
    """The learning rate of a network, by GAT's rule: the wider, the smaller its steps.

    Args:
        name: "generator" or "discriminator".
    """
    optim = config.optim
    rate = optim.learning_rate
    if name == "discriminator":
        rate = optim.discriminator_learning_rate or rate
    if not optim.base_width:
        return rate
    # GAT (arXiv 2509.24935), width-aware learning rate: rate(width) = rate * base_width / width
    return rate * optim.base_width / config.model.width_of(name)


def lazy_share(name: str, config: Config) -> float:
    """What is left of rates and betas where a term comes every few steps (StyleGAN2, appendix B).

    A term that comes every n steps makes n + 1 steps of n.
    """
    objective = config.objective
    if name == "discriminator":
        every = objective.penalty.every if objective.penalty.lazy else 0
    else:
        every = objective.path_length.every
    return every / (every + 1) if every else 1.0


def stated_rate(name: str, config: Config) -> float:
    """The learning rate of a network before warm-up and decay, adjusted for lazy terms."""
    return learning_rate(name, config) * lazy_share(name, config)


def build_optimizer(name: str, network: nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW over all parameters, one fused kernel on CPU and GPU alike.

    Args:
        name: "generator" or "discriminator".
    """
    share = lazy_share(name, config)
    first, second = config.optim.betas
    return torch.optim.AdamW(
        network.parameters(),
        lr=stated_rate(name, config),
        betas=(first**share, second**share),
        eps=config.optim.eps,
        weight_decay=config.optim.weight_decay,
        fused=True,
    )


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
