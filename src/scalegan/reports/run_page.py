"""`scalegan report`: one page about a run, as HTML and as Markdown."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scalegan.errors import ConfigError
from scalegan.evaluation.evaluate import Request
from scalegan.evaluation.images import ImageOptions
from scalegan.reports import run_images, run_numbers
from scalegan.reports.page import Block, Page, Section, write_page
from scalegan.reports.run_data import RunData, read_run_data
from scalegan.reports.truncation_sweep import (
    Measurements,
    measure_sampling_rate,
    measure_sweep,
    sweep_estimate,
    usable_truncations,
)
from scalegan.runtime.world import World

FILE_NAME = "report.html"
SECTIONS: dict[str, Callable[[RunData, Measurements], Sequence[Block]]] = {
    "Overview": run_numbers.overview_section,
    "Samples": run_images.samples_section,
    "Curves": run_numbers.curves_section,
    "What each level paints": run_images.levels_section,
    "Metrics": run_numbers.metrics_section,
    "Truncation": run_numbers.truncation_section,
    "Worst and best classes": run_images.classes_section,
    "Nearest training images": run_images.nearest_section,
    "Cost": run_numbers.cost_section,
    "Config": run_numbers.config_section,
}
"""In the order in which a reader asks for them, by their titles."""


def report_run(
    path: Path,
    out: Path | None,
    num: int,
    truncations: str,
    against: str,
    features: str,
    world: World,
) -> list[str]:
    """Measure a run's generator and write a page about the run.

    Args:
        path: a run, or a snapshot.
        out: the HTML file; None = report.html in the run's folder. The Markdown file is beside it.
        num: images of each truncation that are measured; 0 = nothing is measured.
        truncations: separated by commas, for a generator that has truncation.
        against, features: as `scalegan evaluate` has them.

    Returns:
        Lines for people.

    Raises:
        CheckpointError: if it is no run, or damaged.
        ConfigError: if it is called by several processes, or OUT is no HTML file.
    """
    psis = parse_truncations(truncations)
    if world.size > 1:
        raise ConfigError("a report is made by one process", "call it without torchrun")
    out = out or path / FILE_NAME
    if out.suffix != ".html":
        raise ConfigError(f"`--out` is `{out}`; expected a file named something.html")
    data, measured = read_run_data(path, out, str(world.device)), Measurements()
    if data.gan:
        measured.truncations = usable_truncations(data.gan, psis)
        measured.sampling_rate = measure_sampling_rate(data.gan)
        if num:
            print(sweep_estimate(num, measured))
            options = ImageOptions(num=num)
            request = Request(str(path), against, features=features, options=options)
            measure_sweep(measured, request, world)
    beside = out.with_suffix(".md")
    size = write_page(run_page(data, measured), out, beside)
    notes = [f"notice: not in it: {reason}" for reason in measured.missing.values()]
    return [*notes, f"{out} ({size}), {beside}"]


def parse_truncations(text: str) -> list[float]:
    """Truncations of "0.5,1.0".

    Raises:
        ConfigError: if one is no number, or below 0.
    """
    try:
        psis = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        psis = [-1.0]
    if not all(0 <= psi < float("inf") for psi in psis):
        raise ConfigError(f'`--truncations` is "{text}"; expected numbers such as 0.5,0.7,1.0')
    return psis


def run_page(data: RunData, measured: Measurements) -> Page:
    """All sections of a run's page."""
    kind = data.gan.card.model.architecture if data.gan else "no snapshot yet"
    return Page(
        data.name,
        f"{kind}, {data.snapshot or data.path}",
        [Section(title, blocks(data, measured)) for title, blocks in SECTIONS.items()],
        f"Made by scalegan report, {time.strftime('%Y-%m-%d %H:%M')}",
    )
