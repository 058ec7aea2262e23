"""A comparison as a page: self-contained HTML, and Markdown with pictures beside it."""

import base64
import html
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from scalegan.comparison.results import Point, Results, Run, read_results, spread
from scalegan.runtime.files import atomic_file

MOST_PLOTTED = 4
STYLE = """body { font: 15px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .8em; text-align: right }
th { border-bottom: 1px solid #888 } td:first-child, th:first-child { text-align: left }
img { max-width: 100%; image-rendering: pixelated }"""


class Table(NamedTuple):
    """Rows of text under a header."""

    header: list[str]
    rows: list[list[str]]


class Picture(NamedTuple):
    """A PNG file beside the page."""

    caption: str
    path: Path


Block = str | Table | Picture
"""Text that begins with "# " is a heading."""


def write_page(out: Path) -> list[str]:
    """Write OUT/index.html and OUT/README.md of what is there; lines for people."""
    results = read_results(out)
    blocks = page(results, out)
    for name, text in (("README.md", markdown(blocks)), ("index.html", webpage(blocks))):
        with atomic_file(out / name) as draft:
            draft.write_text(text, encoding="utf-8")
    summary = final_table(results)
    widths = [max(map(len, column)) for column in zip(summary.header, *summary.rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True))
             for row in (summary.header, *summary.rows)]  # fmt: skip
    return [*lines, f"page: {out / 'index.html'} and {out / 'README.md'}"]


def page(results: Results, out: Path) -> list[Block]:
    """The page from top to bottom; its pictures are written on the way."""
    plan = results.plan
    recipes = [entry["name"] for entry in plan["entries"]]
    data = plan["entries"][0]["given"]["data"]
    count = len(plan["seeds"])
    what = f"Recipes {', '.join(recipes)} on `{data['shards'] or data['source']}`: "
    what += f"{plan['budget']} of training each, seeds {', '.join(map(str, plan['seeds']))}."
    blocks: list[Block] = ["# Comparison", what]
    if results.numbers:
        blocks.append(protocol(results))
    spread_of = f"mean ± standard deviation over {count} seeds" if count > 1 else "one seed"
    blocks += [f"# At the end ({spread_of})", final_table(results)]
    if any(run.status != "finished" or run.reason for run in results.runs):
        blocks.append("Not all runs have ended well; every one is listed below.")
    blocks += ["# Every run", run_table(results), "# What it costs", cost_table(results)]
    blocks.append(
        "Operations are those of products and convolutions, counted without running them. "
        "Seconds are of training alone. Samples are timed in batches of 64 after training."
    )
    if any(run.points for run in results.runs):
        plot(results, out / "curves.png")
        blocks += [
            "# Along the way",
            Picture("By time, images and operations.", out / "curves.png"),
        ]
    blocks.append("# Samples")
    for run in results.runs:
        if grids := sorted((run.folder / "samples").glob("step-*.png")):
            path = out / f"samples-{run.folder.name}.png"
            shutil.copyfile(grids[-1], path)
            step = int(grids[-1].stem.removeprefix("step-"))
            blocks.append(Picture(f"{run.folder.name}, step {step:,}, moving average", path))
    return blocks


def protocol(results: Results) -> str:
    """Who judges, and on how many images."""
    first = results.numbers[0]
    features = first.protocol["features"]
    about = features.get("held_out_accuracy")
    told = f", which names {about:.1%} of pictures that it has not seen" if about else ""
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


def plot(results: Results, path: Path) -> None:
    """Metrics by time, images and operations: a color per recipe, a line per seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = names_of(results)[:MOST_PLOTTED]
    axes_of = {
        "seconds of training": lambda point: point.seconds,
        "images seen": lambda point: point.images,
        "TFLOP": lambda point: point.operations / 1e12,
    }
    size = (4 * len(axes_of), 2.8 * len(names))
    figure, grid = pyplot.subplots(
        len(names), len(axes_of), figsize=size, layout="constrained", squeeze=False
    )
    colors = {entry["name"]: f"C{i}" for i, entry in enumerate(results.plan["entries"])}
    for row, name in zip(grid, names, strict=True):
        for axis, (label, read) in zip(row, axes_of.items(), strict=True):
            drawn: set[str] = set()
            for run in results.runs:
                points = [p for p in run.points if name in p.values and read(p) is not None]
                if points:
                    title = None if run.recipe in drawn else run.recipe
                    drawn.add(run.recipe)
                    _line(axis, points, read, name, colors[run.recipe], title)
            axis.set(xlabel=label, ylabel=name)
            axis.grid(alpha=0.2)
            values = [p.values[name] for r in results.runs for p in r.points if name in p.values]
            if values and min(values) > 0 and max(values) > 10 * min(values):
                axis.set_yscale("log")
    grid[0][0].legend(frameon=False, fontsize=8)
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=90)
    pyplot.close(figure)


def _line(
    axis: Any, points: list[Point], read: Any, name: str, color: str, title: str | None
) -> None:
    axis.plot(
        [read(p) for p in points], [p.values[name] for p in points],
        color=color, marker=".", linewidth=1, label=title,
    )  # fmt: skip


def markdown(blocks: list[Block]) -> str:
    """Blocks as Markdown."""
    parts = []
    for block in blocks:
        if isinstance(block, Table):
            lines = [block.header, ["---"] * len(block.header), *block.rows]
            parts.append("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
        elif isinstance(block, Picture):
            parts.append(f"![{block.caption}]({block.path.name})\n\n*{block.caption}*")
        else:
            parts.append(f"#{block}" if block.startswith("# ") and parts else block)
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def webpage(blocks: list[Block]) -> str:
    """Blocks as one HTML file that needs no other."""
    parts = []
    for block in blocks:
        if isinstance(block, Table):
            rows = [_row("th", block.header), *(_row("td", row) for row in block.rows)]
            parts.append(f"<table>{''.join(rows)}</table>")
        elif isinstance(block, Picture):
            data = base64.b64encode(block.path.read_bytes()).decode()
            caption = html.escape(block.caption)
            parts.append(f'<p><img src="data:image/png;base64,{data}" alt="{caption}"><br>')
            parts.append(f"<small>{caption}</small></p>")
        elif block.startswith("# "):
            tag = "h2" if parts else "h1"
            parts.append(f"<{tag}>{html.escape(block[2:])}</{tag}>")
        else:
            parts.append(f"<p>{html.escape(block)}</p>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>scalegan compare</title>'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _row(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
