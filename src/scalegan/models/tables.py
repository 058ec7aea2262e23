"""The networks by the name that `model.architecture` has."""

from collections.abc import Callable
from typing import NamedTuple

from scalegan.interfaces import Discriminator, Generator
from scalegan.models import biggan, gansformer, gat, ladagan


class Architecture(NamedTuple):
    """How an architecture's two networks are made.

    The generator by (config, shape, num_classes); the discriminator by these and the width of the
    features that it is aligned with, 0 = none.
    """

    generator: Callable[..., Generator]
    discriminator: Callable[..., Discriminator]


ARCHITECTURES = {
    "gat": Architecture(gat.GATGenerator, gat.GATDiscriminator),
    "ladagan": Architecture(ladagan.LadaGANGenerator, ladagan.LadaGANDiscriminator),
    "biggan": Architecture(biggan.BigGANGenerator, biggan.BigGANDiscriminator),
    "gansformer": Architecture(gansformer.GANsformerGenerator, gansformer.GANsformerDiscriminator),
}
