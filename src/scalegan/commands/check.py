"""`scalegan check`: every image and label of a source is inspected before training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge

from scalegan.commands.flags import OUT, CountOrZero, parse_flags
from scalegan.errors import DataError


@dataclass(frozen=True)
class Check:
    """Decode every image of a source and report its classes, sizes and whatever is wrong."""

    source: tyro.conf.Positional[str]
    """The images: a folder, an archive or a file, or NAME:PATH to say what it is. Options may
    follow, as in PATH?split=val&label=breed."""
    size: CountOrZero = 0
    """The side in pixels that images will be cropped to; smaller ones are reported.
    0 accepts all."""
    allow_upscaling: bool = False
    """Accept images that are smaller than --size."""
    strict: bool = False
    """Exit with code 2 if a single image or label cannot be used."""
    workers: Annotated[int, Ge(-1)] = -1
    """The number of processes; 0 uses this one, -1 starts one per CPU if there are many images."""
    out: Annotated[Path, OUT] = Path()
    """The folder where shards would be written, to compare their size with its free space."""


def check_command(arguments: list[str]) -> None:
    flags = parse_flags(Check, "check", arguments)

    from scalegan.data.check import check_source, report_lines, workers_for
    from scalegan.data.sources import open_source
    from scalegan.data.tables import SOURCES

    source = open_source(flags.source, SOURCES)
    workers = workers_for(source) if flags.workers < 0 else flags.workers
    findings = check_source(source, flags.size, flags.allow_upscaling, workers)
    print("\n".join(report_lines(findings, flags.out)))
    if not findings.num_good:
        raise DataError(f"`{flags.source}` holds no image that can be used")
    if flags.strict and findings.bad:
        raise DataError(f"{len(findings.bad):,} images or labels cannot be used (--strict)")
