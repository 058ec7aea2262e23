"""A comparison as a page: one HTML file that needs no other, and Markdown beside its images."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scalegan.reports.html import html
from scalegan.reports.markdown import markdown
from scalegan.reports.page import Block, Figure, Gallery, Notice, Page, Plot, Section, Table, Text
from scalegan.reports.plots import Series, in_a_file, lines
from scalegan.reports.results import Point, Results, Run, read_results, spread
from scalegan.reports.sheets import from_file
from scalegan.runtime.files import atomic_file

WEBPAGE, MARKDOWN = "index.html", "README.md"
MOST_PLOTTED = 4
"""Metrics that have curves."""
SAMPLES_WIDTH = 480
CLOCKS: dict[str, Callable[[Point], float | None]] = {
    "seconds of training": lambda point: point.seconds,
    "images seen": lambda point: point.images,
    "TFLOP": lambda point: point.operations / 1e12,
}
"""What curves run along."""


def write_page(out: Path) -> list[str]:
    """Write OUT/index.html and OUT/README.md of what is there; lines for people."""
    results = read_results(out)
    page = page_of(results, out)
    for name, text in ((MARKDOWN, markdown(page, WEBPAGE)), (WEBPAGE, html(page))):
        with atomic_file(out / name) as draft:
            draft.write_text(text, encoding="utf-8")
    summary = final_table(results)
    rows = [summary.head, *summary.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return [*shown, f"page: {out / WEBPAGE} and {out / MARKDOWN}"]


def page_of(results: Results, out: Path) -> Page:
    """The page from top to bottom; files of its images are written on the way."""
    plan = results.plan
    data = plan["entries"][0]["given"]["data"]
    seeds = ", ".join(map(str, plan["seeds"]))
    subtitle = f"{', '.join(entry['name'] for entry in plan['entries'])} on "
    subtitle += f"{data['shards'] or data['source']}: {plan['budget']} of training, seeds {seeds}"
    count = len(plan["seeds"])
    spread_of = f"mean \u00b1 standard deviation over {count} seeds" if count > 1 else "one seed"
    end: list[Block] = [final_table(results)]
    if results.numbers:
        end.append(Text(protocol(results)))
    if any(run.status != "finished" or run.reason for run in results.runs):
        end.append(Notice("Not all runs have ended well; every one is listed below."))
    about_cost = Text(
        "Operations are those of products and convolutions, counted without running them. "
        "Seconds are of training alone. Samples are timed in batches of 64 after training."
    )
    sections = [
        Section(f"At the end ({spread_of})", end),
        *_gallery("Along the way", curves(results, out)),
        *_gallery("Samples", samples(results, out)),
        Section("Every run", [run_table(results)]),
        Section("What it costs", [cost_table(results), about_cost]),
    ]
    footer = [f"Made by scalegan compare, {time.strftime('%Y-%m-%d %H:%M')}"]
    return Page("Comparison", subtitle, sections, footer)


def curves(results: Results, out: Path) -> list[Plot]:
    """Metrics by time, images and operations: a color per recipe, a line per seed."""
    plots = []
    for name in names_of(results)[:MOST_PLOTTED]:
        for clock, read in CLOCKS.items():
            found = []
            for run in results.runs:
                points = [(read(p), p.values[name]) for p in run.points if name in p.values]
                known = [(x, y) for x, y in points if x is not None]
                found += [Series(run.recipe, known)] if known else []
            if found:
                plot = lines(found, clock, name, f"{name} by {clock}")
                file = f"curves/{name}-{clock}.svg".replace(" ", "-")
                with atomic_file(out / file) as draft:
                    draft.write_text(in_a_file(plot), encoding="utf-8")
                plots.append(Plot(plot.svg, plot.caption, file))
    return plots


def samples(results: Results, out: Path) -> list[Figure]:
    """The last grid of every run, from fixed seeds."""
    images = []
    for run in results.runs:
        if grids := sorted((run.folder / "samples").glob("step-*.png")):
            file = f"samples-{run.folder.name}.png"
            shutil.copyfile(grids[-1], out / file)
            step = int(grids[-1].stem.removeprefix("step-"))
            caption = f"{run.folder.name}, step {step:,}, moving average"
            images.append(from_file(out / file, caption, file, SAMPLES_WIDTH))
    return images


def _gallery(title: str, items: Sequence[Plot | Figure]) -> list[Section]:
    """A section, where there is something to show."""
    return [Section(title, [Gallery(items)])] if items else []


def protocol(results: Results) -> str:
    """Who classifiers, and on how many images."""
    first = results.numbers[0]
    features = first.protocol["features"]
    about = features.get("held_out_accuracy")
    told = f", which names {about:.1%} of images that it has not seen" if about else ""
    marks = dict.fromkeys(mark for number in results.numbers for mark in number.marks)
    odd = f" Notice: {'; '.join(marks)}." if marks else ""
    return (
        f"Judged by {features.get('label', features['kind'])}{told}: {first.num_fake:,} samples of "
        f"the moving average, seeds 0 and on, truncation none, against {first.num_real:,} real "
        f'images. "Real images" are two random halves of these. These numbers compare with '
        f"nothing but each other.{odd}"
    )


def names_of(results: Results) -> list[str]:
    return [number.name for number in results.numbers]


def final_table(results: Results) -> Table:
    """Mean and spread of every metric, by recipe."""
    header = ["recipe", "runs", *names_of(results)]
    rows = []
    for entry in results.plan["entries"]:
        runs = results.of(entry["name"])
        finals = [run.final for run in runs if run.final]
        row = [entry["name"], f"{len(finals)} of {len(runs)}"]
        for name in names_of(results):
            row.append(spread([values[name] for values in finals if name in values]))
        rows.append(row)
    floors = [spread([n.floor] if n.floor is not None else []) for n in results.numbers]
    return Table(header, [*rows, ["real images", "", *floors]] if results.numbers else rows)


def run_table(results: Results) -> Table:
    """One line for every run, whatever became of it."""
    header = ["run", "state", "steps", "images", "TFLOP", "seconds", *names_of(results)]
    rows = []
    for run in results.runs:
        entry = entry_of(results, run)
        state = f"{run.status}: {run.reason}" if run.reason else run.status
        spent = run.step * entry["operations_per_step"] / 1e12
        rows.append([
            run.folder.name, state, f"{run.step:,}", f"{run.step * entry['images_per_step']:,}",
            f"{spent:,.4g}", f"{run.seconds:,.1f}",
            *(spread([run.final[n]] if n in run.final else [], 4) for n in names_of(results)),
        ])  # fmt: skip
    return Table(header, rows)


def cost_table(results: Results) -> Table:
    """Parameters, operations and speed, by recipe."""
    header = ["recipe", "G, M parameters", "D, M parameters", "MFLOP per sample",
              "GFLOP per training step", "images per step", "training images/s",
              "ms per sample"]  # fmt: skip
    rows = []
    for entry in results.plan["entries"]:
        runs = results.of(entry["name"])
        rates = [r.step * entry["images_per_step"] / r.seconds for r in runs if r.seconds]
        drawn = [1000 * r.sample_seconds for r in runs if r.sample_seconds]
        generator, discriminator = entry["parameters"]
        rows.append([
            entry["name"], f"{generator / 1e6:.3f}", f"{discriminator / 1e6:.3f}",
            f"{entry['generator_forward'] / 1e6:,.3f}",
            f"{entry['operations_per_step'] / 1e9:,.2f}", f"{entry['images_per_step']}",
            spread(rates), spread(drawn),
        ])  # fmt: skip
    return Table(header, rows)


def entry_of(results: Results, run: Run) -> dict[str, Any]:
    return next(e for e in results.plan["entries"] if e["name"] == run.recipe)
