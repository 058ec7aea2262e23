"""Small untrained DINOv2 networks, saved in the format of Hugging Face's transformers."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
REGISTERS = 3


def network(has_registers: bool = False, seed: int = 0, grid: int = 5) -> Any:
    """A network for images of `grid` patches of side 14; no two positions are alike."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = SIZES | {"image_size": 14 * grid, "patch_size": 14}
    made: Any
    if has_registers:
        config = Dinov2WithRegistersConfig(**sizes, num_register_tokens=REGISTERS)
        made = Dinov2WithRegistersModel(config)
    else:
        made = Dinov2Model(Dinov2Config(**sizes))
    with torch.no_grad():  # wide, so that a forgotten part shows
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def folder(path: Path, has_registers: bool = False, seed: int = 0) -> Path:
    """Save a network; returns its folder."""
    network(has_registers, seed).save_pretrained(path)
    return path
