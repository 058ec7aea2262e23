"""The tables of names: what a recipe may ask for, and what it gets. Nothing else is here."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from scalegan.autoencoders.base import Identity
from scalegan.data import sources
from scalegan.features import dinov2
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

# Each made by (path, device[, side]).
FEATURES = {name: partial(dinov2.dinov2, name) for name in dinov2.VARIANTS}

SOURCES: dict[str, Callable[[str], sources.Source]] = {"digits": sources.digits, "npz": sources.npz}
