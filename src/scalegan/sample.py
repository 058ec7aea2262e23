"""Seeds in, images out. Image i depends on seed i and on nothing else."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.errors import ConfigError
from scalegan.interfaces import (
    Autoencoder,
    GeneratorModule,
    GuidesStyle,
    Images,
    Labels,
    TruncatesStyle,
)
from scalegan.runtime.rng import stream


def labels_for(seeds: Sequence[int], classes: Sequence[int]) -> Labels:
    """The class of each seed's image: consecutive seeds walk through the classes in turn."""
    return torch.tensor([classes[seed % len(classes)] for seed in seeds], dtype=torch.int64)


def noise_for(seeds: Sequence[int], z_shape: tuple[int, ...]) -> Float[Tensor, "N *Z"]:
    """Standard normal noise, each row from its own seed's stream."""
    rows = [torch.randn(z_shape, generator=stream("sample", seed)) for seed in seeds]
    return torch.stack(rows)


@torch.no_grad()
def styles_for(
    generator: GeneratorModule,
    seeds: Sequence[int],
    labels: Labels,
    truncation: float = 1.0,
    guidance: float = 1.0,
) -> Float[Tensor, "N *S"]:
    """Styles of seeds and labels, on the generator's device.

    Args:
        truncation: psi; 1 = none, 0 = the mean of the class.
        guidance: 1 = none; above, away from the mean over all classes. Applied after truncation.

    Raises:
        ConfigError: if the generator lacks what is asked for.
    """
    device = next(generator.parameters()).device
    z, labels = noise_for(seeds, generator.z_shape).to(device), labels.to(device)
    w = generator.map(z, labels)
    if truncation != 1:
        if not isinstance(generator, TruncatesStyle):
            raise ConfigError(f"{type(generator).__name__} has no truncation")
        w = generator.truncate(w, labels, truncation)
    if guidance != 1:
        if not isinstance(generator, GuidesStyle):
            raise ConfigError(f"{type(generator).__name__} has no guidance")
        w = generator.guide(w, z, guidance)
    return w


@torch.no_grad()
def paint(
    generator: GeneratorModule, autoencoder: Autoencoder, w: Float[Tensor, "N *S"], level: int = -1
) -> Images:
    """Images of styles, on the CPU. Levels count from 0 (coarsest); -1 is the finest."""
    return autoencoder.decode(generator.synthesize(w)[:, level]).cpu()


def sample(
    generator: GeneratorModule,
    autoencoder: Autoencoder,
    seeds: Sequence[int],
    labels: Labels,
    truncation: float = 1.0,
    guidance: float = 1.0,
    batch_size: int = 64,
) -> Iterator[Images]:
    """Images of seeds, in batches, in order; memory does not grow with their number."""
    for first in range(0, len(seeds), batch_size):
        part = slice(first, first + batch_size)
        w = styles_for(generator, seeds[part], labels[part], truncation, guidance)
        yield paint(generator, autoencoder, w)
