"""`scalegan statistics`: the moments of a reference set, as a file to evaluate against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import UNSET, Count, CountOrZero, parse_flags
from scalegan.errors import ConfigError


@dataclass(frozen=True)
class Statistics:
    """Write the statistics of a reference set, to evaluate against without its images."""

    source: tyro.conf.Positional[str]
    """The images: a folder, an archive or a file, shards, or NAME:PATH to say what it is."""
    out: tyro.conf.Positional[Path]
    """The file to write, NAME.npz."""
    features: Annotated[str, UNSET] = ""
    """One feature network, as in `scalegan evaluate --features`; inception if not given."""
    size: CountOrZero = 0
    """The side in pixels to crop images to; 0 leaves them as they are."""
    num: CountOrZero = 0
    """The number of images, chosen at random; 0 is all there are."""
    seed: CountOrZero = 0
    """The seed of the random choice."""
    bank: bool = False
    """Keep the features of every image too, which precision, recall and KID need."""
    batch_size: Count = 64
    """The number of images computed at a time."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, or auto for a GPU if there is one."""


def statistics_command(arguments: list[str]) -> None:
    flags = parse_flags(Statistics, "statistics", arguments)
    if flags.out.suffix != ".npz":
        raise ConfigError(f"OUT is `{flags.out}`; expected a file named something.npz")

    from scalegan.evaluation.evaluate import make_statistics
    from scalegan.evaluation.images import ImageOptions
    from scalegan.runtime.world import join, leave

    options = ImageOptions(flags.num, flags.size, flags.seed, batch_size=flags.batch_size)
    world = join(flags.device)
    lines = make_statistics(flags.source, flags.out, flags.features, options, flags.bank, world)
    if world.is_first:
        print("\n".join(lines))
    leave()
