"""Images from seeds: noise, style, truncation, guidance. Image i depends on seed i alone."""

import copy
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.errors import ConfigError
from scalegan.interfaces import (
    Autoencoder,
    Calibrates,
    Generator,
    GuidesStyle,
    Images,
    Labels,
    TruncatesNoise,
    TruncatesStyle,
)
from scalegan.runtime.rng import stream

CALIBRATION = 1024
"""Samples whose batch statistics count, in batches of 64 (the port takes 16 batches)."""


def labels_for(seeds: Sequence[int], classes: Sequence[int]) -> Labels:
    """The class of each seed's image: consecutive seeds walk through the classes in turn."""
    return torch.tensor([classes[seed % len(classes)] for seed in seeds], dtype=torch.int64)


def noise_for(seeds: Sequence[int], z_shape: tuple[int, ...]) -> Float[Tensor, "N *Z"]:
    """Standard normal noise, each row from its own seed's stream."""
    rows = [torch.randn(z_shape, generator=stream("sample", seed)) for seed in seeds]
    return torch.stack(rows)


@torch.no_grad()
def styles_for(
    generator: Generator,
    seeds: Sequence[int],
    labels: Labels,
    truncation: float | None = None,
    guidance: float = 1.0,
) -> Float[Tensor, "N *S"]:
    """Styles of seeds and labels, on the generator's device.

    Args:
        truncation: psi: 1 = none, 0 = the mean of the class; where noise is truncated (BigGAN), the
            threshold beyond which it is redrawn. None = none.
        guidance: 1 = none; above, away from the mean over all classes. Applied after truncation.

    Raises:
        ConfigError: if the generator lacks what is asked for.
    """
    device = next(generator.parameters()).device
    z, labels = noise_for(seeds, generator.z_shape).to(device), labels.to(device)
    if truncation is not None and isinstance(generator, TruncatesNoise):
        z = generator.truncate_noise(z, truncation)
    w = generator.map(z, labels)
    if truncation is not None and isinstance(generator, TruncatesStyle):
        w = generator.truncate(w, labels, truncation)
    elif truncation is not None and not isinstance(generator, TruncatesNoise):
        raise ConfigError(f"{type(generator).__name__} has no truncation")
    if guidance != 1:
        if not isinstance(generator, GuidesStyle):
            raise ConfigError(f"{type(generator).__name__} has no guidance")
        w = generator.guide(w, z, guidance)
    return w


def calibrated(generator: Generator, truncation: float | None) -> Generator:
    """The generator with the batch statistics of truncated noise; itself if it has none.

    Without truncation the statistics of training serve (BigGAN, arXiv 1809.11096, section 3.1).
    """
    if truncation is None or not isinstance(generator, Calibrates):
        return generator
    generator = copy.deepcopy(generator)
    device = next(generator.parameters()).device
    labels = torch.arange(CALIBRATION) % max(1, generator.num_classes)
    z = torch.randn(CALIBRATION, *generator.z_shape, generator=stream("calibrate"))
    assert isinstance(generator, TruncatesNoise), "only truncated noise needs other statistics"
    z = generator.truncate_noise(z.to(device), truncation)
    generator.calibrate(z, labels.to(device))
    return generator


@torch.no_grad()
def paint(
    generator: Generator, autoencoder: Autoencoder, w: Float[Tensor, "N *S"], level: int = -1
) -> Images:
    """Synthesize and decode images of styles, on the CPU.

    Levels count from 0 (coarsest); -1 is the finest.
    """
    return autoencoder.decode(generator.synthesize(w)[:, level]).cpu()


def stream_images(
    generator: Generator,
    autoencoder: Autoencoder,
    seeds: Sequence[int],
    labels: Labels,
    truncation: float | None = None,
    guidance: float = 1.0,
    batch_size: int = 64,
) -> Iterator[Images]:
    """Draw images of seeds and labels in batches, in order.

    Memory does not grow with their number.

    Args:
        generator: `calibrated` for the truncation.
        truncation, guidance: as of `styles_for`.
    """
    for first in range(0, len(seeds), batch_size):
        part = slice(first, first + batch_size)
        w = styles_for(generator, seeds[part], labels[part], truncation, guidance)
        yield paint(generator, autoencoder, w)
