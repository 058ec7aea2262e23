"""`scalegan report`: one page about a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import OUT, UNSET, CountOrZero, parse_flags


@dataclass(frozen=True)
class Report:
    """Write one page about a run, as HTML and Markdown: images, curves, numbers and cost."""

    run: tyro.conf.Positional[Path]
    """A run, finished or still training, or a snapshot folder."""
    out: Annotated[Path | None, OUT, UNSET] = None
    """The HTML file; report.html in the run's folder if not given. The Markdown is beside it."""
    num: CountOrZero = 1000
    """The number of images to evaluate at each truncation; 0 evaluates nothing."""
    truncations: str = "0.3,0.5,0.7,1.0"
    """Truncations to draw and evaluate, separated by commas; no truncation is always added."""
    against: Annotated[str, UNSET] = ""
    """The reference, as in `scalegan evaluate`; the data of the run if not given."""
    features: Annotated[str, UNSET] = ""
    """One feature network, as in `scalegan evaluate`.
    If not given, the classifier of the run if it has one, else inception."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, or auto for a GPU if there is one."""


def report_command(arguments: list[str]) -> None:
    flags = parse_flags(Report, "report", arguments)

    from scalegan.reports.run_page import report_run
    from scalegan.runtime.world import join, leave

    lines = report_run(
        flags.run,
        flags.out,
        flags.num,
        flags.truncations,
        flags.against,
        flags.features,
        join(flags.device),
    )
    print("\n".join(lines))
    leave()
