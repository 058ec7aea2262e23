"""Encoding images into rows: decoded, cropped, stacked and encoded, a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch

from scalegan.autoencoders.tables import make_autoencoder
from scalegan.config.schema import AutoencoderConfig
from scalegan.data.images import Problem, encode_png, is_gray_by_header
from scalegan.data.sources import Source, SourceImage, decode_each, refuse_empty
from scalegan.interfaces import Autoencoder
from scalegan.runtime.progress import follow

BATCH_SIZE = 16
"""Images that a worker is handed at a time."""


@dataclass(frozen=True)
class RowSettings:
    """How an image becomes a row: all that a worker needs to know."""

    autoencoder: AutoencoderConfig
    size: int
    """Side to crop to; 0 = images are square and of one size already."""
    allow_upscaling: bool
    mirror: bool
    keep_images: bool
    channels: int = 0
    """1 if all images are gray, else 3; 0 = not known yet."""
    side: int = 0
    """Of the cropped images; 0 = not known yet."""

    @property
    def copies(self) -> int:
        """Rows per image."""
        return 2 if self.mirror else 1

    def make_autoencoder(self) -> Autoencoder:
        """The autoencoder for images of these channels and this side."""
        return make_autoencoder(self.autoencoder, self.channels, self.side)


class ImageBatch(NamedTuple):
    """Images of one shard to encode together."""

    shard: int
    images: list[SourceImage]


class EncodedBatch(NamedTuple):
    """The rows of those images of a batch that could be used."""

    stored: np.ndarray
    """(copies * images, ...): an image, its mirror image, the next image ...; the images
    themselves where they are encoded elsewhere."""
    png: list[bytes]
    """Per image that could be used, if images are kept."""
    reasons: list[str]
    """Per image of the batch, why it was left out; empty if it was not."""


def measure_images(source: Source, settings: RowSettings) -> tuple[RowSettings, float]:
    """Find the channels and the side of a source's images, where they are not known yet.

    A set with color in it shows at its first colored image. Of a gray one every header is read, and
    images are decoded only where the header cannot tell: RGB may hold gray, L cannot hold color.

    Returns:
        The settings with channels and side; the mean size of a PNG in bytes, if images are kept.
    """
    channels, side = settings.channels, settings.side or settings.size
    num_measured = BATCH_SIZE if settings.keep_images else 0
    sizes: list[int] = []
    bad: list[Problem] = []

    def tells_more(image: SourceImage) -> bool:
        return not side or len(sizes) < num_measured or not is_gray_by_header(image.image)

    if channels and not num_measured:
        return settings, 0.0
    images = iter(source)
    # A bar only where the first images do not tell: a gray set is read to its end.
    images = chain(islice(images, 100), follow(images, source.num_images, "image headers"))
    for _, found in decode_each(
        filter(tells_more, images), settings.size, settings.allow_upscaling
    ):
        if isinstance(found, Problem):
            bad.append(found)
            continue
        pixels = found.pixels(settings.size)  # (3, P, P)
        side = side or pixels.shape[-1]
        if len(sizes) < num_measured:
            sizes.append(len(encode_png(pixels)))
        if not channels and (pixels != pixels[:1]).any():
            channels = 3
        if channels and len(sizes) >= num_measured:
            break
    if not side:
        raise refuse_empty(source, [*source.problems, *bad])
    png_bytes = float(np.mean(sizes)) if sizes else 0.0
    return replace(settings, channels=channels or 1, side=side), png_bytes


class Worker:
    """Decodes, crops and encodes images; where a GPU encodes, it leaves that to others."""

    def __init__(self, settings: RowSettings, encodes: bool) -> None:
        self.settings = settings
        self.autoencoder = settings.make_autoencoder() if encodes else None

    def __call__(self, batch: ImageBatch) -> EncodedBatch:
        settings = self.settings
        good: list[np.ndarray] = []
        reasons: list[str] = []
        for _, found in decode_each(batch.images, settings.size, settings.allow_upscaling):
            if isinstance(found, Problem):
                reasons.append(found.reason)
                continue
            pixels = found.pixels(settings.size)
            reasons.append(self._misfit(pixels))
            good += [] if reasons[-1] else [pixels]
        if not good:
            return EncodedBatch(np.empty(0), [], reasons)
        png = [encode_png(pixels) for pixels in good] if settings.keep_images else []
        if settings.mirror:
            good = [copy for pixels in good for copy in (pixels, pixels[..., ::-1])]
        stored = np.stack(good)  # (N, 3, P, P)
        if self.autoencoder is not None:
            stored = self.autoencoder.encode(torch.from_numpy(stored)).numpy()
        return EncodedBatch(stored, png, reasons)

    def _misfit(self, pixels: np.ndarray) -> str:
        """Why an image does not fit the others; empty if it does."""
        side, expected = pixels.shape[-1], self.settings.side
        if side != expected:
            return (
                f"is {side}x{side} where the first one is {expected}x{expected}; a size such as "
                "--size 64 crops them"
            )
        if self.settings.channels == 1 and (pixels != pixels[:1]).any():
            return "has color, which no image had when the work began"
        return ""


def encode_on(
    device: str, settings: RowSettings, results: Iterator[tuple[ImageBatch, EncodedBatch]]
) -> Iterator[tuple[ImageBatch, EncodedBatch]]:
    """Encode on a GPU what the workers have decoded."""
    autoencoder = settings.make_autoencoder()
    for batch, encoded in results:
        if len(encoded.stored):
            stored = autoencoder.encode(torch.from_numpy(encoded.stored).to(device))
            encoded = encoded._replace(stored=stored.cpu().numpy())
        yield batch, encoded
