"""Optimizers and the width-aware learning rate."""

import torch
from torch import nn

from scalegan.config.models import GATConfig
from scalegan.config.schema import Config


def learning_rate(name: str, config: Config) -> float:
    """GAT's scaling rule: the wider the network, the smaller its steps."""
    optim = config.optim
    rate = optim.learning_rate
    if name == "discriminator":
        rate = optim.discriminator_learning_rate or rate
    if not optim.base_width:
        return rate
    assert isinstance(config.model, GATConfig), "checked when the config is resolved"
    return rate * optim.base_width / config.model.width


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


def build_optimizer(name: str, network: nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW over all parameters, one fused kernel on CPU and GPU alike.

    Args:
        name: "generator" or "discriminator".
    """
    share = lazy_share(name, config)
    first, second = config.optim.betas
    return torch.optim.AdamW(
        network.parameters(),
        lr=learning_rate(name, config) * share,
        betas=(first**share, second**share),
        eps=config.optim.eps,
        weight_decay=config.optim.weight_decay,
        fused=True,
    )
