"""The tables of names: what a recipe may ask for, and what it gets. Nothing else is here."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from scalegan.autoencoders.base import Identity
from scalegan.data import archives, folders, sources, tables
from scalegan.losses import adversarial
from scalegan.models import gat


class Architecture(NamedTuple):
    """A pair of networks, each made by (config, shape, num_classes, ...)."""

    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]


ARCHITECTURES = {"gat": Architecture(gat.GATGenerator, gat.GATDiscriminator)}

ADVERSARIAL = {
    "relativistic": adversarial.Pair(
        adversarial.relativistic_discriminator, adversarial.relativistic_generator
    ),
}

AUTOENCODERS = {"identity": Identity}

SOURCES: dict[str, Callable[[str], sources.Source]] = {
    "folder": folders.folder,
    "flat": folders.flat,
    "zip": archives.zipped,
    "webdataset": archives.webdataset,
    "parquet": tables.parquet,
    "npz": sources.npz,
    "digits": sources.digits,
}
