"""The tables of names: what a recipe may ask for, and what it gets. Nothing else is here."""

from collections.abc import Callable
from typing import Any, NamedTuple

from scalegan.autoencoders.base import Identity
from scalegan.data import sources
from scalegan.losses import adversarial
from scalegan.models import gat


class Architecture(NamedTuple):
    """A pair of networks, (config, shape, num_classes, ...) -> module, and its named sizes."""

    generator: Callable[..., Any]
    discriminator: Callable[..., Any]
    sizes: dict[str, Any]


ARCHITECTURES = {"gat": Architecture(gat.GATGenerator, gat.GATDiscriminator, gat.SIZES)}

ADVERSARIAL = {
    "relativistic": adversarial.Pair(
        adversarial.relativistic_discriminator, adversarial.relativistic_generator
    ),
}

AUTOENCODERS = {"identity": Identity}

SOURCES = {"digits": sources.digits, "npz": sources.npz}
