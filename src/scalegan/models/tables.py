"""The networks by the name that `model.architecture` has."""

from collections.abc import Callable
from typing import NamedTuple

from scalegan.config.models import GATConfig
from scalegan.interfaces import Discriminator, Generator
from scalegan.models import biggan, cat, gansformer, gat, ladagan


class Architecture(NamedTuple):
    """How an architecture's two networks are made.

    The generator by (config, shape, num_classes); the discriminator by these and the width of the
    features that it is aligned with, 0 = none.
    """

    generator: Callable[..., Generator]
    discriminator: Callable[..., Discriminator]


def gat_discriminator(
    config: GATConfig, shape: tuple[int, int, int], num_classes: int, features: int = 0
) -> Discriminator:
    """The discriminator that fits how the generator's levels are supervised."""
    kinds = {"noise": gat.GATDiscriminator, "scales": cat.CATDiscriminator}
    return kinds[config.supervision](config, shape, num_classes, features)


ARCHITECTURES = {
    "gat": Architecture(gat.GATGenerator, gat_discriminator),
    "ladagan": Architecture(ladagan.LadaGANGenerator, ladagan.LadaGANDiscriminator),
    "biggan": Architecture(biggan.BigGANGenerator, biggan.BigGANDiscriminator),
    "gansformer": Architecture(gansformer.GANsformerGenerator, gansformer.GANsformerDiscriminator),
}
