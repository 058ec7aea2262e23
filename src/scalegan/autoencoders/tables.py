"""The autoencoders by the name that `autoencoder.kind` has."""

from collections.abc import Callable

from scalegan.autoencoders.kl import kl
from scalegan.autoencoders.pixels import identity
from scalegan.autoencoders.tiny import taef2, tiny
from scalegan.config.schema import AutoencoderConfig
from scalegan.interfaces import Autoencoder

AUTOENCODERS: dict[str, Callable[[AutoencoderConfig, int, int], Autoencoder]] = {
    "identity": identity,
    "sd-vae-ft-ema": kl,
    "sd-vae-ft-mse": kl,
    "kl": kl,
    "taesd": tiny,
    "tiny": tiny,
    "taef2": taef2,
}
"""Each made by (config, channels of the images: 1 or 3, their side)."""
