"""`scalegan sample`: images are drawn from a trained generator."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge

from scalegan.commands.flags import (
    OUT,
    UNSET,
    Count,
    CountOrZero,
    parse_classes,
    parse_flags,
    parse_seeds,
)


@dataclass(frozen=True)
class Sample:
    """Draw images from a trained generator; an image depends on its seed alone."""

    run: tyro.conf.Positional[Path]
    """A run, whose newest snapshot is taken, or a snapshot folder."""
    classes: Annotated[str, UNSET] = ""
    """Names or indices of classes, separated by commas; all classes if not given.
    They repeat in turn over the seeds."""
    seeds: str = "0-63"
    """The seeds of the images, such as 0-63 or 1,5,9."""
    truncation: Annotated[float | None, Ge(0), UNSET] = None
    """Truncation psi: 1 is off, smaller is more typical and less varied; off if not given.
    For BigGAN the threshold beyond which noise is drawn again."""
    guidance: Annotated[float, Ge(0)] = 1.0
    """Class guidance: 1 is off, larger moves images away from what all classes have in common."""
    out: Annotated[Path, OUT] = Path("samples.png")
    """What to write: NAME.png is a grid, NAME.npz holds images (arr_0) and labels (arr_1),
    any other name is a folder of PNG files."""
    columns: CountOrZero = 0
    """The number of columns of the grid; 0 is one per class, 16 at most."""
    batch_size: Count = 64
    """The number of images computed at a time; it does not change them."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""
    autoencoder: Annotated[str, UNSET] = ""
    """The name or folder of the autoencoder, if it is not where the snapshot says."""


def sample_command(arguments: list[str]) -> None:
    flags = parse_flags(Sample, "sample", arguments)
    seeds, classes = parse_seeds(flags.seeds), parse_classes(flags.classes)

    from scalegan.inference.files import write_samples
    from scalegan.inference.gan import load

    gan = load(flags.run, flags.device, flags.autoencoder)
    line = write_samples(
        gan,
        flags.out,
        seeds,
        classes,
        flags.truncation,
        flags.guidance,
        flags.columns,
        flags.batch_size,
    )
    print(line)
