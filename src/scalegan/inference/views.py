"""Visualizations of a generator: interpolations, truncation, levels, mixed styles, attention."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from scalegan.inference.gan import GAN
from scalegan.interfaces import (
    MapsAttention,
    MixesStyles,
    TruncatesNoise,
    TruncatesStyle,
    WeighsTokens,
)
from scalegan.runtime.image_files import grid

PSIS = (0.0, 0.25, 0.5, 0.75, 1.0)
THRESHOLDS = (0.1, 0.5, 1.0, 1.5, 2.0)
STEPS = 9
SHADE = 0.35
"""Weight of an image under the colors of its components."""


class Visualization(NamedTuple):
    """A grid of images, and what its rows and columns are."""

    name: str
    about: str
    image: Image.Image


def views(
    gan: GAN, count: int = 8, classes: Sequence[int | str] | None = None, seed: int = 0
) -> Iterator[Visualization]:
    """Draw every visualization that the generator's architecture allows.

    Args:
        count: images of a row, at least 2.
        classes, seed: as of `GAN.sample`.

    Raises:
        ConfigError: if a class is unknown.
    """
    generator = gan.generator
    images = gan.sample(count, classes, seed=seed)
    yield Visualization("samples", "samples of consecutive seeds", grid(images, count))
    labels = gan.indices(classes)
    pairs = [(labels[i % len(labels)], labels[(i + 1) % len(labels)]) for i in range(count)]
    ends = pairs if gan.card.class_names else [None] * count
    walks = [gan.interpolate((seed + i, seed + i + 1), ends[i], STEPS) for i in range(count)]
    about = "a row: from one seed to the next"
    yield Visualization("walk", about, grid(torch.cat(walks), STEPS))
    if len(labels) > 1:
        walks = [gan.interpolate((seed + i, seed + i), ends[i], STEPS) for i in range(count)]
        about = "a row: from one class to another with the same noise"
        yield Visualization("classes", about, grid(torch.cat(walks), STEPS))
    if isinstance(generator, TruncatesStyle | TruncatesNoise):
        is_noise = isinstance(generator, TruncatesNoise)
        name, strengths = ("threshold", THRESHOLDS) if is_noise else ("psi", PSIS)
        rows = [gan.sample(count, classes, truncation=psi, seed=seed) for psi in strengths]
        rows.append(images)
        about = f"rows: {name} {', '.join(map(str, strengths))}, none"
        yield Visualization("truncation", about, grid(torch.cat(rows), count))
    if gan.num_levels > 1:
        levels = gan.levels(count, classes, seed=seed).flatten(0, 1)
        yield Visualization("levels", "rows: levels, coarse to fine", grid(levels, count))
    if isinstance(generator, MixesStyles):
        mixed = [gan.mix((seed + i, seed + i + 1), ends[i]) for i in range(count)]
        about = "a row: layers of the second seed give way to those of the first, none to all"
        yield Visualization("mixing", about, grid(torch.cat(mixed), len(mixed[0])))
    w = gan.style(count, classes, seed=seed)
    if isinstance(generator, MapsAttention) and w.shape[1] > 1:
        maps = gan.attention_maps(w).mean(dim=3)  # (N, k, B, H, W)
        rows = [images, *(components(images, layer) for layer in maps.unbind(2))]
        about = f"rows: samples, then by layer which of {maps.shape[1]} components each place takes"
        yield Visualization("components", about, grid(torch.cat(rows), count))
    if isinstance(generator, WeighsTokens):
        rows = [images]
        for layer in gan.token_weights(w):
            rows += [heat(head, images.shape[-1]) for head in layer.unbind(1)]
        about = "rows: samples, then by layer and head how much each token counts in the query"
        yield Visualization("tokens", about, grid(torch.cat(rows), count))


def components(
    images: UInt8[Tensor, "N 3 P P"], maps: Float[Tensor, "N k H W"]
) -> UInt8[Tensor, "N 3 P P"]:
    """Color each position of images by the components that it attends to."""
    colors = torch.tensor(colormaps["turbo"](torch.linspace(0.05, 0.95, maps.shape[1]).numpy()))
    colored = torch.einsum("nkhw,kc->nchw", maps.cpu(), colors[:, :3].float())
    colored = F.interpolate(colored, size=images.shape[-1], mode="nearest")
    colored = colored / maps.sum(dim=1, keepdim=True).amax().clamp(min=1e-8).cpu()
    mixed = SHADE * images.float() + (1 - SHADE) * 255 * colored
    return mixed.clamp(0, 255).round().to(torch.uint8)


def heat(shares: Float[Tensor, "N G G"], side: int) -> UInt8[Tensor, "N 3 P P"]:
    """Draw attention weights as gray images of a side, white at the largest."""
    shares = shares.cpu() / shares.cpu().amax(dim=(1, 2), keepdim=True)
    large = F.interpolate(shares[:, None], size=side, mode="nearest")
    return (255 * large).round().to(torch.uint8).expand(-1, 3, -1, -1)
