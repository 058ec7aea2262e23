"""Tiny autoencoders: the TAESD family through diffusers, and TAEF2, which diffusers cannot hold.

Source: github.com/madebyollin/taesd. TAEF2 has 32 channels, factor 8 and, at the lowest resolution,
blocks with a normalized side branch; diffusers' AutoencoderTiny would leave those tensors out and
lose 14 dB without a word. Both are deterministic. AutoencoderTiny takes and gives images in
[-1, 1], TAEF2's own weights in [0, 1].
"""

from typing import Any

import torch
from torch import Tensor, nn

from scalegan.autoencoders.files import find, load_network, statistics
from scalegan.autoencoders.latents import Codec, Latents
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError
from scalegan.runtime.weights import load_weights

WIDTH = 64


def tiny(config: AutoencoderConfig, channels: int, side: int, hub: str = "") -> Latents:
    """An AutoencoderTiny from a local folder, else from a repository of the hub.

    There is only a mean to store. Other arguments and errors are those of
    `tables.make_autoencoder`.
    """
    folder = find(config, hub)
    network: Any = load_network(folder, "AutoencoderTiny")
    settings = network.config
    count = settings.latent_channels
    ones = torch.ones(count)
    shift, scale = statistics(folder, count) or (
        ones * settings.shift_factor,
        ones * settings.scaling_factor,
    )
    codec = Codec(
        family="tiny",
        network=network,
        encode=lambda images: network.encode(images).latents,
        decode=lambda latents: network.decode(latents).sample,
        lowest=-1.0,
        image_channels=settings.in_channels,
        channels=count,
        factor=2 ** (len(settings.encoder_block_out_channels) - 1),
        shift=shift,
        scale=scale,
        settings={"act_fn": settings.act_fn},
    )
    return Latents(codec, "mean", channels, side)


def taef2(config: AutoencoderConfig, channels: int, side: int) -> Latents:
    """TAEF2 from a folder with `encoder.safetensors` and `decoder.safetensors`.

    Its latents are standardized by `latent_stats.json`, where that lies beside them; there is only
    a mean to store. Arguments and errors are those of `tables.make_autoencoder`.
    """
    folder = find(config)
    network = TAEF2()
    for name in ("encoder", "decoder"):
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            raise CheckpointError(
                f"there is no `{path}`", "TAEF2 is encoder.safetensors and decoder.safetensors"
            )
        load_weights(getattr(network, name), path)  # float16 becomes float32
    ones = torch.ones(TAEF2.channels)
    shift, scale = statistics(folder, TAEF2.channels) or (0 * ones, ones)
    codec = Codec(
        family="taef2",
        network=network,
        encode=network.encoder,
        decode=network.decoder,
        lowest=0.0,
        image_channels=3,
        channels=TAEF2.channels,
        factor=TAEF2.factor,
        shift=shift,
        scale=scale,
    )
    return Latents(codec, "mean", channels, side)


class TAEF2(nn.Module):
    """Encoder and decoder; their layers are numbered as in the files."""

    channels, factor = 32, 8

    def __init__(self) -> None:
        super().__init__()

        def blocks(count: int, is_lowest: bool = False) -> list[nn.Module]:
            return [Block(is_lowest) for _ in range(count)]

        def down() -> nn.Module:
            return nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)

        def up() -> list[nn.Module]:
            return [nn.Upsample(scale_factor=2), conv(WIDTH, WIDTH, bias=False)]

        self.encoder = nn.Sequential(
            *(conv(3, WIDTH), *blocks(1)),
            *(down(), *blocks(3)),
            *(down(), *blocks(3)),
            *(down(), *blocks(3, is_lowest=True)),
            conv(WIDTH, self.channels),
        )
        self.decoder = nn.Sequential(
            *(SoftClamp(), conv(self.channels, WIDTH), nn.ReLU()),
            *(*blocks(3, is_lowest=True), *up()),
            *(*blocks(3), *up()),
            *(*blocks(3), *up()),
            *(*blocks(1), conv(WIDTH, 3)),
        )


class Block(nn.Module):
    """Three convolutions around which the input is added; before them, a side branch or none."""

    def __init__(self, has_branch: bool) -> None:
        super().__init__()
        layers = [conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, WIDTH)]
        self.conv = nn.Sequential(*layers)
        self.pool = branch() if has_branch else None

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class SoftClamp(nn.Module):
    """Keeps latents within -3 and 3: 3 tanh(x / 3), as TAESD's decoders begin."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


def branch() -> nn.Module:
    """Normalized over the whole image: the latent of a crop is not the crop of a latent."""
    return nn.Sequential(
        nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
        nn.GroupNorm(4, 4 * WIDTH),
        nn.ReLU(),
        nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
    )


def conv(inputs: int, outputs: int, bias: bool = True) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
