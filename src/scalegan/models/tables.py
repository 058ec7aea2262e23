"""The networks by the name that `model.architecture` has."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from scalegan.models import biggan, gansformer, gat, ladagan


class Architecture(NamedTuple):
    """A pair of networks, each made by (config, shape, num_classes, ...)."""

    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]


ARCHITECTURES = {
    "gat": Architecture(gat.GATGenerator, gat.GATDiscriminator),
    "ladagan": Architecture(ladagan.LadaGANGenerator, ladagan.LadaGANDiscriminator),
    "biggan": Architecture(biggan.BigGANGenerator, biggan.BigGANDiscriminator),
    "gansformer": Architecture(gansformer.GANsformerGenerator, gansformer.GANsformerDiscriminator),
}
