"""The sections of a run's page that hold numbers: overview, curves, metrics, cost, config."""

import json
from collections.abc import Mapping, Sequence

from scalegan.config import reading as configs
from scalegan.evaluation.measure import Number
from scalegan.evaluation.results import COLUMNS, cells, figure
from scalegan.inference.snapshot import image_side
from scalegan.planning.cost import Task, costs, count
from scalegan.reports.page import (
    Block,
    Details,
    Gallery,
    Notice,
    Plot,
    Table,
    Text,
    Tiles,
)
from scalegan.reports.plots import trade_off, training_curves
from scalegan.reports.run_data import RunData
from scalegan.reports.truncation_sweep import Measurements, truncation_label
from scalegan.runtime.text import clock
from scalegan.train.curves import metric_kinds

HEADLINES = ("fid", "pr", "accuracy")
"""Metrics that the overview shows."""


def overview_section(data: RunData, measured: Measurements) -> list[Block]:
    """The few most important numbers, and how far the run is."""
    numbers = measured.numbers or data.recorded
    tiles = [(figure(n.value), n.title) for n in numbers if n.metric in HEADLINES]
    step, total = data.step, data.total_steps
    tiles.append((f"{step:,}", f"of {total:,} steps" if total else "steps"))
    if data.gan:
        tiles.append((f"{len(data.gan.card.class_names):,}", "classes"))
        tiles.append((f"{measured.sampling_rate:,.0f}", f"images/s on {data.device}"))
    blocks: list[Block] = [Tiles(tiles)]
    if data.unfinished:
        text = (
            f"The run has not reached its end: {data.unfinished}. It is still training, "
            "or was stopped; the same command goes on."
        )
        blocks.append(Notice(text))
    if data.config is None:
        blocks.append(Notice("A snapshot alone: its run's settings and curves are not here."))
    elif data.gan and data.gan.card.step < step:
        text = (
            f"Images and numbers are of the newest snapshot, step {data.gan.card.step:,}; the "
            f"curves go on to step {step:,}."
        )
        blocks.append(Notice(text))
    if "all" in measured.missing:
        blocks.append(Notice(f"Nothing was measured: {measured.missing['all']}."))
    return blocks


def curves_section(data: RunData, measured: Measurements) -> list[Block]:
    """Plots of what metrics.jsonl holds."""
    plots = training_curves(data.metrics, metric_kinds(data.path))
    if not plots:
        return [Notice("There are none: metrics.jsonl has no value twice.")]
    file = data.link(data.path / "curves.png")
    first = Plot(plots[0].svg, plots[0].caption, file)  # the file has all of them
    return [Gallery([first, *plots[1:]])]


def metrics_section(data: RunData, measured: Measurements) -> list[Block]:
    """Numbers with their protocol: what was measured now, and what the run has recorded."""
    blocks: list[Block] = []
    if measured.numbers:
        text = (
            "Measured for this report, without truncation. Real images: the same of two "
            "random halves of the real images (accuracy: of images that the classifier has not "
            "seen); no generator needs to be better. Numbers compare only where the "
            "fingerprint is equal."
        )
        blocks += [Text(text), *number_blocks(measured.numbers)]
    if data.recorded:
        steps = [n.protocol["samples"].get("step") for n in data.recorded]
        step = next((step for step in steps if step is not None), None)
        when = "" if step is None else f" at step {step:,}"
        text = f"Recorded by the run{when} (evaluation.json):"
        blocks += [Text(text), *number_blocks(data.recorded)]
    elif data.config is not None:
        blocks.append(Notice("The run has recorded no evaluation of its own (evaluation.json)."))
    for name, reason in measured.missing.items():
        what = "Nothing was measured" if name == "all" else f"Not measured, {name}"
        blocks.append(Notice(f"{what}: {reason}."))
    if not measured.numbers and not measured.missing:
        blocks.append(Notice("Nothing was measured for this report (--num 0, or no snapshot)."))
    return blocks


def number_blocks(numbers: Sequence[Number]) -> list[Block]:
    """A table of numbers, what is odd about them, and their protocols."""
    table = Table(COLUMNS, [cells(number) for number in numbers])
    marks = dict.fromkeys(mark for number in numbers for mark in number.marks)
    return [table, *map(Notice, marks), Details("Protocol", protocol_text(numbers))]


def protocol_text(numbers: Sequence[Number]) -> str:
    """All that decides the numbers as JSON; what several share is written once."""
    shared: dict[str, list[str]] = {}
    for number in numbers:
        parts = ("features", "reference", "samples")
        values = {part: _without_names(number.protocol[part]) for part in parts}
        text = json.dumps(values, indent=2, sort_keys=True, default=str)
        variant = json.dumps(number.protocol["definition"], sort_keys=True)
        shared.setdefault(text, []).append(f"{number.title}: {variant}")
    return "\n\n".join("\n".join([*titles, text]) for text, titles in shared.items())


def _without_names(values: Mapping[str, object]) -> dict[str, object]:
    """Lists of class names, which can be thousands long, become their length."""
    return {
        key: f"{len(value):,} names" if isinstance(value, list) and "class" in key else value
        for key, value in values.items()
    }


def truncation_section(data: RunData, measured: Measurements) -> list[Block]:
    """What truncation gives and takes."""
    if data.gan is None or not measured.sweep:
        return [Notice("No sweep: nothing was measured.")]
    if len(measured.sweep) == 1:
        kind = type(data.gan.generator).__name__
        text = f"No sweep: {kind} has no truncation, or none was asked for."
        return [Notice(text)]
    everything = [number for numbers in measured.sweep.values() for number in numbers]
    titles = {number.name: number.title for number in everything}
    distance = next((number.name for number in everything if number.kind == "distance"), "")
    by_label = {
        truncation_label(psi): {number.name: number for number in numbers}
        for psi, numbers in measured.sweep.items()
    }
    rows = []
    for label, numbers in by_label.items():
        values = [figure(numbers[name].value) if name in numbers else "-" for name in titles]
        fingerprint = numbers[distance].fingerprint if distance in numbers else "-"
        rows.append([label, *values, fingerprint])
    plots = []
    for x, y in [("is", distance), ("recall", "precision")]:
        points = {}
        for label, numbers in by_label.items():
            across, up = (numbers[n].value if n in numbers else None for n in (x, y))
            if across is not None and up is not None:
                points[label] = (across, up)
        if len(points) > 1:
            caption = f"{titles[y]} against {titles[x]}, by truncation"
            plots.append(trade_off(points, titles[x], titles[y], caption))
    num = max((number.num_fake for number in everything), default=0)
    text = (
        "More truncation makes typical images and less variety: precision rises, recall "
        f"falls. {num:,} images at each, of the same seeds and classes; the last row has none."
    )
    head = ["truncation", *titles.values(), "fingerprint of the first"]
    return [Text(text), Gallery(plots), Table(head, rows)]


def cost_section(data: RunData, measured: Measurements) -> list[Block]:
    """Parameters, operations, speed and time."""
    rows = generator_costs(data, measured) if data.gan and data.snapshot else []
    if data.seconds:
        text = f"{clock(data.seconds)} of training"
        if data.images_per_second:
            text += f", {data.images_per_second:,.0f} images/s"
        text += ", without what was evaluated and saved"
        if len(data.starts) > 1:
            text += f"; {len(data.starts)} starts"
        rows.append(("time", text))
    if data.starts:
        last, names = data.starts[-1], ("device", "threads", "ranks", "torch", "python")
        known = [f"{name} {last[name]}" for name in names if name in last]
        rows.append(("trained on", ", ".join(known)))
    if not rows:
        return [Notice("Not known: there is neither a snapshot nor a record.")]
    return [Table(["", ""], rows)]


def generator_costs(data: RunData, measured: Measurements) -> list[tuple[str, str]]:
    """Rows about the snapshot's networks: parameters, operations and speed."""
    assert data.gan is not None and data.snapshot is not None
    card, rows = data.gan.card, []
    has_discriminator = (data.snapshot / "discriminator.safetensors").is_file()
    for name, cost in costs(card, has_discriminator).items():
        size, gflop = f"{cost.parameters:,} parameters", cost.flops / 1e9
        rows.append((name, f"{size}, {gflop:.3g} GFLOP per image forward"))
    if data.config:
        task = Task(card.shape, len(card.class_names), 0, image_side(card))
        step, seen = count(data.config, task).step, card.images_seen
        total = f"{step * seen / 1e15:.3g} PFLOP for {seen:,} images seen"
        rows.append(("training", f"{step / 1e9:.3g} GFLOP per image, {total}"))
    speed = f"{measured.sampling_rate:,.1f} images/s on {data.device}"
    return [*rows, ("sampling", f"{speed}, in batches of 32, decoding included")]


def config_section(data: RunData, measured: Measurements) -> list[Block]:
    """The settings that matter most, and the whole config."""
    config = data.config
    if config is None:
        details = [Details("Model", str(data.gan.card.model))] if data.gan else []
        return [Notice("There is no config.toml: this is a snapshot."), *details]
    train, optim = config.train, config.optim
    classes = "with classes" if config.data.conditional else "without classes"
    width = f" at width {optim.base_width}" if optim.base_width else ""
    rows = [
        ("architecture", config.model.architecture),
        ("data", f"{config.data.shards or config.data.source}, {classes}"),
        ("autoencoder", f"{config.autoencoder.kind} {config.autoencoder.path}".strip()),
        ("duration", f"{train.duration}, batches of {train.batch_size}"),
        ("learning rate", f"{optim.learning_rate:g}{width}"),
        ("objective", config.objective.adversarial),
        ("average", f"decay {train.ema_decay:g}"),
        ("seed", str(config.seed)),
    ]
    return [Table(["", ""], rows), Details("config.toml", configs.to_toml(config))]
