"""The linear autoencoder: principal components of patches, found in one pass over one's own images.

It needs no training, encodes and decodes with one matrix product each, and of all linear maps to as
many numbers it loses least. Its latents are as many tokens as an image has patches.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from scalegan.autoencoders.files import (
    CONFIG,
    STATISTICS,
    WEIGHTS,
    find,
    read_config,
    statistics,
)
from scalegan.autoencoders.latents import Codec, Latents
from scalegan.autoencoders.pixels import to_gray
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.runtime.files import save_tensors, write_json
from scalegan.runtime.weights import load_weights

CLASS_NAME = "LinearAutoencoder"


class PatchProjection(nn.Module):
    """Projects patches onto orthonormal components, and back."""

    def __init__(self, image_channels: int, factor: int, channels: int) -> None:
        super().__init__()
        patch = (image_channels, factor, factor)
        self.mean = nn.Parameter(torch.zeros(patch))
        self.components = nn.Parameter(torch.zeros(channels, *patch))

    def encode(self, images: Float[Tensor, "N I P P"]) -> Float[Tensor, "N C H W"]:
        offset = (self.components * self.mean).sum(dim=(1, 2, 3))
        return F.conv2d(images, self.components, -offset, stride=self.mean.shape[-1])

    def decode(self, latents: Float[Tensor, "N C H W"]) -> Float[Tensor, "N I P P"]:
        grid = latents.shape[-1]
        images = F.conv_transpose2d(latents, self.components, stride=self.mean.shape[-1])
        return images + self.mean.repeat(1, grid, grid)


def linear(config: AutoencoderConfig, channels: int, side: int) -> Latents:
    """A linear autoencoder from the folder that `scalegan autoencoder train --kind linear` wrote.

    There is only a mean to store. Arguments and errors are those of `tables.make_autoencoder`.
    """
    folder = find(config)
    settings = read_config(folder)
    if settings["_class_name"] != CLASS_NAME:
        raise CheckpointError(f"`{folder}` holds `{settings['_class_name']}`, which is not linear")
    try:
        sizes = [int(settings[name]) for name in ("image_channels", "factor", "channels")]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"`{folder / CONFIG}` cannot be used: {error}") from None
    network = PatchProjection(*sizes)
    load_weights(network, folder / WEIGHTS)
    found = statistics(folder, sizes[2])
    if found is None:
        raise CheckpointError(f"`{folder}` has no `{STATISTICS}`")
    codec = codec_of(network, *found)
    return Latents(codec, "mean", channels, side)


def codec_of(
    network: PatchProjection, shift: Float[Tensor, " C"], scale: Float[Tensor, " C"]
) -> Codec:
    """The network with what must be known to use it; samples are (latents - shift) * scale."""
    channels, image_channels, factor, _ = network.components.shape
    return Codec(
        family="linear",
        network=network,
        encode=network.encode,
        decode=network.decode,
        lowest=-1.0,
        image_channels=image_channels,
        channels=channels,
        factor=factor,
        shift=shift,
        scale=scale,
    )


def fit_linear(
    parts: Iterable[UInt8[Tensor, "_ 3 P P"]], image_channels: int, factor: int, channels: int
) -> tuple[PatchProjection, Float[Tensor, " C"]]:
    """The projection onto the leading principal components, and their standard deviations.

    Signs are such that the largest entry of a component is positive, so that the same images give
    the same components everywhere.

    Args:
        parts: the images, some at a time.
        image_channels: 1 if the images are gray, else 3.
        factor: side of a patch, by which the images' side divides.

    Raises:
        ConfigError: if there are more components than numbers in a patch.
    """
    width = image_channels * factor**2
    if channels > width:
        raise ConfigError(
            f"`channels` is {channels} but a patch of {factor}x{factor} has {width} numbers",
            f"choose {width} or fewer",
        )
    total, products, count = torch.zeros(width).double(), torch.zeros(width, width).double(), 0
    for part in parts:
        shown = part if image_channels == 3 else to_gray(part)
        patches = F.unfold(shown.double() / 127.5 - 1, factor, stride=factor).mT.flatten(0, 1)
        total += patches.sum(dim=0)
        products += patches.mT @ patches
        count += len(patches)
    mean = total / count
    variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    components = vectors.mT.flip(0)[:channels]  # (C, width), the largest variance first
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    network = PatchProjection(image_channels, factor, channels)
    with torch.no_grad():
        network.mean.copy_(mean.view_as(network.mean))
        network.components.copy_((components * largest.sign()).view_as(network.components))
    return network, variances.flip(0)[:channels].clamp(min=1e-12).sqrt().float()


def divisors(deviations: Float[Tensor, " C"], whitening: float) -> Float[Tensor, " C"]:
    """What latents are divided by: deviation ** whitening, so that their mean square becomes 1."""
    powers = deviations**whitening
    return powers * (deviations / powers).square().mean().sqrt()


def save_linear(
    folder: Path, network: PatchProjection, scale: Float[Tensor, " C"], about: dict[str, Any]
) -> None:
    """Write the files of a linear autoencoder into a folder that exists.

    Args:
        scale: what latents are divided by.
        about: how it was made and how good it is, for readers.
    """
    channels, image_channels, factor, _ = network.components.shape
    sizes = {"image_channels": image_channels, "factor": factor, "channels": channels}
    save_tensors(network.state_dict(), folder / WEIGHTS)
    statistics = {"mean": [0.0] * channels, "std": scale.tolist(), **about}
    write_json(folder / STATISTICS, statistics)
    write_json(folder / CONFIG, {"_class_name": CLASS_NAME, **sizes})
