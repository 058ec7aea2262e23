"""`scalegan visualize`: views of what a trained generator does, as images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge

from scalegan.commands.flags import OUT, UNSET, CountOrZero, parse_classes, parse_flags


@dataclass(frozen=True)
class Visualize:
    """Draw views of a trained generator, one PNG file each.

    Which ones depends on its architecture: samples, walks between seeds and classes, truncation,
    levels, mixed styles, attention to components or tokens.
    """

    run: tyro.conf.Positional[Path]
    """A run, whose newest snapshot is taken, or a snapshot folder."""
    out: Annotated[Path, OUT] = Path("views")
    """The folder to write."""
    classes: Annotated[str, UNSET] = ""
    """Names or indices of classes, separated by commas; all classes in turn if not given."""
    seed: CountOrZero = 0
    """The seed of the first image; the others follow."""
    count: Annotated[int, Ge(2)] = 8
    """The number of images in a row."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""
    autoencoder: Annotated[str, UNSET] = ""
    """The name or folder of the autoencoder, if it is not where the snapshot says."""


def visualize_command(arguments: list[str]) -> None:
    flags = parse_flags(Visualize, "visualize", arguments)

    from scalegan.inference.files import write_views
    from scalegan.inference.gan import load

    gan = load(flags.run, flags.device, flags.autoencoder)
    for line in write_views(gan, flags.out, flags.count, parse_classes(flags.classes), flags.seed):
        print(line)
