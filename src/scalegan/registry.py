"""The tables of names: what a recipe may ask for, and what it gets. Nothing else is here."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from scalegan.autoencoders.base import identity
from scalegan.autoencoders.kl import kl
from scalegan.autoencoders.tiny import taef2, tiny
from scalegan.data import archives, folders, sources, tables
from scalegan.features import dinov2
from scalegan.interfaces import Autoencoder
from scalegan.losses import adversarial
from scalegan.models import gansformer, gat
from scalegan.settings import AutoencoderConfig


class Architecture(NamedTuple):
    """A pair of networks, each made by (config, shape, num_classes, ...)."""

    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]


ARCHITECTURES = {
    "gat": Architecture(gat.GATGenerator, gat.GATDiscriminator),
    "gansformer": Architecture(gansformer.GANsformerGenerator, gansformer.GANsformerDiscriminator),
}

ADVERSARIAL = {
    "relativistic": adversarial.Pair(
        adversarial.relativistic_discriminator, adversarial.relativistic_generator
    ),
    "logistic": adversarial.Pair(
        adversarial.logistic_discriminator, adversarial.logistic_generator
    ),
}

AUTOENCODERS: dict[str, Callable[[AutoencoderConfig, int, int], Autoencoder]] = {
    "identity": identity,
    "sd-vae-ft-ema": kl,
    "sd-vae-ft-mse": kl,
    "kl": kl,
    "taesd": tiny,
    "tiny": tiny,
    "taef2": taef2,
}
"""Each made by (config, channels of the pictures: 1 or 3, their side)."""

# Each made by (path, device[, side]).
FEATURES = {name: partial(dinov2.dinov2, name) for name in dinov2.VARIANTS}

SOURCES: dict[str, Callable[[str], sources.Source]] = {
    "folder": folders.folder,
    "flat": folders.flat,
    "zip": archives.zipped,
    "webdataset": archives.webdataset,
    "parquet": tables.parquet,
    "npz": sources.npz,
    "digits": sources.digits,
}
