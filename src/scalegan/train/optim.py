"""Optimizers and the width-aware learning rate."""

import torch
from torch import nn

from scalegan.settings import OptimConfig

BASE_WIDTH = 768
"""The width at which a recipe states its learning rate (GAT-B)."""


def learning_rate(base: float, width: int) -> float:
    """GAT's scaling rule: the wider the network, the smaller its steps."""
    return base * BASE_WIDTH / width


def build_optimizer(network: nn.Module, width: int, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over all parameters, one fused kernel on CPU and GPU alike."""
    return torch.optim.AdamW(
        network.parameters(),
        lr=learning_rate(config.learning_rate, width),
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
