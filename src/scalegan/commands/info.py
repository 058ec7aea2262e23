"""`scalegan info`: what a run or a snapshot is."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from scalegan.commands.flags import parse_flags


@dataclass(frozen=True)
class Info:
    """Show what a run or a snapshot is: its sizes, its cost and how far it was trained."""

    run: tyro.conf.Positional[Path]
    """A run or a snapshot folder."""


def info_command(arguments: list[str]) -> None:
    flags = parse_flags(Info, "info", arguments)

    from scalegan.reports.summary import summarize

    print("\n".join(summarize(flags.run)))
