"""`scalegan prepare`: images become shards to train on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from scalegan.commands.flags import Count, CountOrZero, parse_flags


@dataclass(frozen=True)
class Prepare:
    """Crop, encode and verify images, and write them as shards to train on.

    The same command again goes on where it was stopped.
    """

    source: tyro.conf.Positional[str]
    """The images: a folder, an archive or a file, or NAME:PATH to say what it is. Options may
    follow, as in PATH?split=val&label=breed."""
    out: tyro.conf.Positional[Path]
    """The folder to write, which `data.shards` then names."""
    size: CountOrZero = 0
    """The side in pixels to crop images to; 0 leaves them as they are: square, all of one size."""
    autoencoder: str = "identity"
    """What encodes the images: identity keeps pixels; else a name such as sd-vae-ft-mse,
    or a folder with the files of an autoencoder."""
    store: Literal["moments", "mean"] = "moments"
    """What is stored of an autoencoder's distribution: moments are its mean and deviation,
    sampled at training time; mean is the mean alone."""
    workers: CountOrZero = 0
    """The number of processes; 0 starts one per CPU. It does not change what is written."""
    device: str = "cpu"
    """Where images are encoded: cpu, by all processes, or cuda."""
    shard_rows: Count = 10_000
    """The number of images in a shard."""
    allow_upscaling: bool = False
    """Enlarge images that are smaller than --size instead of leaving them out."""
    mirror: bool = False
    """Store the mirror image of every image too."""
    keep_images: bool = False
    """Store the images beside their latents, for a teacher or a classifier."""
    strict: bool = False
    """Stop at the first image that cannot be used instead of leaving it out."""


def prepare_command(arguments: list[str]) -> None:
    flags = parse_flags(Prepare, "prepare", arguments)

    from scalegan.autoencoders.tables import named
    from scalegan.data.prepare import prepare

    prepare(
        flags.source,
        flags.out,
        flags.size,
        named(flags.autoencoder, flags.store),
        allow_upscaling=flags.allow_upscaling,
        mirror=flags.mirror,
        keep_images=flags.keep_images,
        shard_rows=flags.shard_rows,
        workers=flags.workers,
        device=flags.device,
        strict=flags.strict,
    )
