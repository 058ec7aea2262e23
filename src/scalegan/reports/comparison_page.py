"""The page about a comparison of recipes: metrics, curves, samples, runs and costs."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev

from scalegan.reports.comparison_data import ComparisonData, EvaluatedPoint, read_comparison
from scalegan.reports.image_grids import file_figure, sample_grids
from scalegan.reports.page import (
    Block,
    Figure,
    Gallery,
    Notice,
    Page,
    Plot,
    Section,
    Table,
    Text,
    write_page,
)
from scalegan.reports.plots import Series, line_plot, standalone_svg
from scalegan.runtime.files import write_durable
from scalegan.runtime.text import aligned

HTML, MARKDOWN = "index.html", "README.md"
MAX_PLOTTED = 4
"""Metrics that have curves."""
SAMPLES_WIDTH = 480
CLOCKS: dict[str, Callable[[EvaluatedPoint], float | None]] = {
    "seconds of training": lambda evaluation: evaluation.seconds,
    "images seen": lambda evaluation: evaluation.images_seen,
    "TFLOP": lambda evaluation: evaluation.operations / 1e12,
}
"""What curves run along."""


def write_comparison(out: Path) -> list[str]:
    """Write OUT/index.html and OUT/README.md about what is there; return lines for people."""
    data = read_comparison(out)
    write_page(comparison_page(data, out), out / HTML, out / MARKDOWN)
    summary = final_table(data)
    return [*aligned([summary.head, *summary.rows]), f"page: {out / HTML} and {out / MARKDOWN}"]


def comparison_page(data: ComparisonData, out: Path) -> Page:
    """All sections; files of the page's plots and images are written into OUT on the way."""
    plan = data.plan
    source = plan["entries"][0]["given"]["data"]
    names = ", ".join(entry["name"] for entry in plan["entries"])
    seeds = ", ".join(map(str, plan["seeds"]))
    return Page(
        "Comparison",
        f"{names} on {source['shards'] or source['source']}: {plan['budget']} of training, "
        f"seeds {seeds}",
        comparison_sections(data, out),
        f"Made by scalegan compare, {time.strftime('%Y-%m-%d %H:%M')}",
    )


def comparison_sections(data: ComparisonData, out: Path) -> list[Section]:
    """Metrics, curves, samples, runs and costs; plots and images are written into OUT too."""
    count = len(data.plan["seeds"])
    spread_of = f"mean \u00b1 standard deviation over {count} seeds" if count > 1 else "one seed"
    end: list[Block] = [final_table(data)]
    if data.numbers:
        end.append(Text(protocol_sentences(data)))
    if any(run.status != "finished" or run.reason for run in data.runs):
        end.append(Notice("Not all runs have ended well; every one is listed below."))
    about_cost = (
        "Operations are those of products and convolutions, counted without running them. "
        "Seconds are of training alone. Samples are timed in batches of 64 after training."
    )
    sections = [
        Section(f"At the end ({spread_of})", end),
        Section("Along the way", [Gallery(metric_curves(data, out))]),
        Section("Samples", [Gallery(final_samples(data, out))]),
        Section("Every run", [run_table(data)]),
        Section("What it costs", [cost_table(data), Text(about_cost)]),
    ]
    return [section for section in sections if section.blocks != [Gallery([])]]


def metric_curves(data: ComparisonData, out: Path) -> list[Plot]:
    """Metrics by time, images and operations: a color per recipe, a line per seed."""
    plots = []
    for name in data.metric_names[:MAX_PLOTTED]:
        for clock, read in CLOCKS.items():
            series = []
            for run in data.runs:
                points = [(read(e), e.values[name]) for e in run.evaluations if name in e.values]
                known = [(x, y) for x, y in points if x is not None]
                series += [Series(run.entry["name"], known)] if known else []
            if series:
                plot = line_plot(series, clock, name, f"{name} by {clock}")
                file = f"curves/{name}-{clock}.svg".replace(" ", "-")
                write_durable(out / file, standalone_svg(plot))
                plots.append(Plot(plot.svg, plot.caption, file))
    return plots


def final_samples(data: ComparisonData, out: Path) -> list[Figure]:
    """The last grid of samples of every run, from fixed seeds."""
    figures = []
    for run in data.runs:
        if grids := sample_grids(run.folder):
            step, path = max(grids.items())
            file = f"samples-{run.folder.name}.png"
            shutil.copyfile(path, out / file)
            caption = f"{run.folder.name}, step {step:,}, moving average"
            figures.append(file_figure(out / file, caption, file, SAMPLES_WIDTH))
    return figures


def protocol_sentences(data: ComparisonData) -> str:
    """In which features was measured, on how many images, and what is odd about the numbers."""
    first = data.numbers[0]
    features = first.protocol["features"]
    accuracy = features.get("held_out_accuracy")
    names = f", which names {accuracy:.1%} of images that it has not seen" if accuracy else ""
    marks = dict.fromkeys(mark for number in data.numbers for mark in number.marks)
    notice = f" Notice: {'; '.join(marks)}." if marks else ""
    return (
        f"Measured in the features of {features.get('label', features['kind'])}{names}: "
        f"{first.num_fake:,} samples of the moving average, seeds 0 and on, truncation none, "
        f'against {first.num_real:,} real images. "Real images" are two random halves of these. '
        f"These numbers compare with nothing but each other.{notice}"
    )


def final_table(data: ComparisonData) -> Table:
    """Mean and spread of every metric at the end, by recipe."""
    rows = []
    for entry in data.plan["entries"]:
        runs = data.of(entry["name"])
        finals = [run.final for run in runs if run.final]
        by_metric = [[final[n] for final in finals if n in final] for n in data.metric_names]
        rows.append([entry["name"], f"{len(finals)} of {len(runs)}", *map(spread_text, by_metric)])
    floors = [spread_text([n.floor] if n.floor is not None else []) for n in data.numbers]
    if data.numbers:
        rows.append(["real images", "", *floors])
    return Table(["recipe", "runs", *data.metric_names], rows)


def run_table(data: ComparisonData) -> Table:
    """One line for every run, whatever became of it."""
    names = data.metric_names
    rows = []
    for run in data.runs:
        operations = run.step * run.entry["operations_per_step"]
        finals = [[run.final[name]] if name in run.final else [] for name in names]
        row = [
            run.folder.name,
            f"{run.status}: {run.reason}" if run.reason else run.status,
            f"{run.step:,}",
            f"{run.step * run.entry['images_per_step']:,}",
            f"{operations / 1e12:,.4g}",
            f"{run.seconds:,.1f}",
            *(spread_text(values, 4) for values in finals),
        ]
        rows.append(row)
    return Table(["run", "state", "steps", "images", "TFLOP", "seconds", *names], rows)


def cost_table(data: ComparisonData) -> Table:
    """Parameters, operations and speed, by recipe."""
    rows = []
    for entry in data.plan["entries"]:
        runs = data.of(entry["name"])
        rates = [run.step * entry["images_per_step"] / run.seconds for run in runs if run.seconds]
        sampling = [1000 * run.sample_seconds for run in runs if run.sample_seconds]
        generator, discriminator = entry["parameters"]
        columns = {
            "recipe": entry["name"],
            "G, M parameters": f"{generator / 1e6:.3f}",
            "D, M parameters": f"{discriminator / 1e6:.3f}",
            "MFLOP per sample": f"{entry['generator_forward'] / 1e6:,.3f}",
            "GFLOP per training step": f"{entry['operations_per_step'] / 1e9:,.2f}",
            "images per step": f"{entry['images_per_step']}",
            "training images/s": spread_text(rates),
            "ms per sample": spread_text(sampling),
        }
        rows.append(columns)
    return Table(list(rows[0]), [list(columns.values()) for columns in rows])


def spread_text(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds, or the one value."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}g}"
    return f"{mean(values):.{digits}g} \u00b1 {stdev(values):.2g}"
