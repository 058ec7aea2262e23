"""Small autoencoders with random weights, saved in the formats that published ones have."""

from pathlib import Path
from typing import Any

import torch

from scalegan.autoencoders.fit import build_network
from scalegan.config.auxiliary import FitConfig
from scalegan.config.schema import AutoencoderConfig

SHARED = Path(__file__).parents[3] / "shared"
TAEF2 = SHARED / "weights" / "taef2"
WHY = f"`{TAEF2}` is not here"


def save_kl(folder: Path, seed: int = 0, image_channels: int = 3, **config: Any) -> Path:
    """An AutoencoderKL of factor 4 with 3 latent channels."""
    torch.manual_seed(seed)
    network = build_network(FitConfig(factor=4, channels=3, width=8), image_channels)
    network.register_to_config(**config)
    network.save_pretrained(folder)
    return folder


def save_tiny(folder: Path) -> Path:
    """An AutoencoderTiny of factor 4 with 5 latent channels."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=5,
    ).save_pretrained(folder)
    return folder


def config(folder: Path, kind: Any = "kl", store: Any = "moments") -> AutoencoderConfig:
    return AutoencoderConfig(kind, str(folder), store)


def images(count: int = 4, side: int = 16, is_gray: bool = False) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    shape = (count, 1 if is_gray else 3, side, side)
    return torch.randint(0, 256, shape, generator=rng).to(torch.uint8).expand(-1, 3, -1, -1)
