"""`scalegan convert`: weights of another implementation become a snapshot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import UNSET, parse


@dataclass(frozen=True)
class Convert:
    """Turn weights of the official GAT code, or the hub's BigGAN-deep, into a snapshot."""

    file: tyro.conf.Positional[Path]
    """The weights: a .safetensors file, or a pickle, which is opened in a child process."""
    out: tyro.conf.Positional[Path]
    """The snapshot folder to write; it must not exist."""
    hub_config: Annotated[Path | None, UNSET] = None
    """The config.json beside the hub's BigGAN-deep weights; FILE holds a GAT if not given."""
    class_names: Annotated[Path | None, UNSET] = None
    """A text file with one class name a line; classes are numbered if not given."""
    allow_unsafe_pickle: bool = False
    """Open a file that can run code when it is unpickled; only for files that you trust."""


def convert_command(arguments: list[str]) -> int:
    flags = parse(Convert, "convert", arguments)

    from scalegan.convert.convert import convert

    lines = convert(
        flags.file, flags.out, flags.class_names, flags.allow_unsafe_pickle, flags.hub_config
    )
    print("\n".join(lines))
    return 0
