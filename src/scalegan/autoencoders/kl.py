"""KL autoencoders of the Stable Diffusion family, through diffusers' AutoencoderKL.

Source: "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752; its
latents are multiplied by 0.18215 to unit variance (there, appendix D.1; here, the folder's config).
Images are in [-1, 1].
"""

from typing import Any

import torch
from torch import Tensor

from scalegan.autoencoders.files import CONFIG, find, load_network, standardize, statistics
from scalegan.autoencoders.latents import Codec, Latents
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError


def kl(config: AutoencoderConfig, channels: int, side: int, hub: str = "") -> Latents:
    """A KL autoencoder from a local folder, else from a repository of the hub.

    Other arguments and errors are those of `tables.make_autoencoder`.
    """
    folder = find(config, hub)
    network = load_network(folder, "AutoencoderKL")
    settings = network.config
    count = settings.latent_channels
    normalization = statistics(folder, count)
    if normalization is None and settings.latents_mean and settings.latents_std:
        mean, deviation = (
            torch.tensor(values).float().flatten()
            for values in (settings.latents_mean, settings.latents_std)
        )
        shift, scale = standardize(mean, deviation, count, folder / CONFIG)
        normalization = shift, scale * settings.scaling_factor
    elif normalization is None:
        ones = torch.ones(count)
        normalization = ones * (settings.shift_factor or 0.0), ones * settings.scaling_factor
    if settings.in_channels != settings.out_channels or settings.in_channels not in (1, 3):
        raise CheckpointError(
            f"`{folder}` turns {settings.in_channels} image channels into "
            f"{settings.out_channels}; expected 1 or 3, and the same"
        )
    return Latents(codec(network, *normalization), config.store, channels, side)


def codec(network: Any, shift: Tensor, scale: Tensor) -> Codec:
    """How an AutoencoderKL is used, with the normalization of its latents."""
    settings = network.config

    def encode(images: Tensor) -> Tensor:
        posterior = network.encode(images).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)

    return Codec(
        family="kl",
        network=network,
        encode=encode,
        decode=lambda latents: network.decode(latents).sample,
        lowest=-1.0,
        image_channels=settings.in_channels,
        channels=settings.latent_channels,
        factor=2 ** (len(settings.block_out_channels) - 1),
        shift=shift,
        scale=scale,
        settings={"act_fn": settings.act_fn, "norm_num_groups": settings.norm_num_groups},
    )
