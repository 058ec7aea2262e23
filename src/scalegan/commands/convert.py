"""`scalegan convert`: weights of another implementation become a snapshot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scalegan.commands.flags import UNSET, parse_flags


@dataclass(frozen=True)
class Convert:
    """Turn weights of other implementations of the four systems into a snapshot."""

    file: tyro.conf.Positional[Path]
    """The weights: a .safetensors file, or a pickle, which is opened in a child process."""
    out: tyro.conf.Positional[Path]
    """The snapshot folder to write; it must not exist."""
    system: Literal["", "gat", "ladagan", "biggan", "biggan-hub", "gansformer"] = ""
    """What the weights are of; recognized by the names of the tensors if not given."""
    model: Annotated[Path | None, UNSET] = None
    """A JSON file with settings of the model that shapes do not tell, which go before what they
    tell; of the hub's BigGAN the config.json beside its weights."""
    class_names: Annotated[Path | None, UNSET] = None
    """A text file with one class name a line; classes are numbered if not given."""
    allow_unsafe_pickle: bool = False
    """Open a file that can run code when it is unpickled; only for files that you trust."""


def convert_command(arguments: list[str]) -> None:
    flags = parse_flags(Convert, "convert", arguments)

    from scalegan.convert.convert import convert

    lines = convert(
        flags.file,
        flags.out,
        flags.class_names,
        flags.allow_unsafe_pickle,
        flags.system,
        flags.model,
    )
    print("\n".join(lines))
