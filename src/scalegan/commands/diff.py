"""`scalegan diff`: two results of `scalegan evaluate` side by side."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from scalegan.commands.flags import parse_flags


@dataclass(frozen=True)
class Diff:
    """Show two results of `scalegan evaluate --out` side by side, or why they do not compare."""

    first: tyro.conf.Positional[Path]
    """The JSON file of one result."""
    second: tyro.conf.Positional[Path]
    """The JSON file of the other."""


def diff_command(arguments: list[str]) -> None:
    flags = parse_flags(Diff, "diff", arguments)

    from scalegan.evaluation.results import diff

    print("\n".join(diff(flags.first, flags.second)))
