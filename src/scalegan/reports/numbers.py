"""The parts of a report that hold numbers: overview, curves, metrics, truncation, cost, config."""

import json
import time
from collections.abc import Sequence

from scalegan.config import reading as configs
from scalegan.errors import DataError
from scalegan.evaluation.measure import Number
from scalegan.evaluation.results import SPREADS, figure, read_result
from scalegan.inference.snapshot import image_side
from scalegan.planning.cost import Task, costs, count
from scalegan.reports import plots
from scalegan.reports.page import (
    Block,
    Folded,
    Gallery,
    Notice,
    Plot,
    Section,
    Table,
    Text,
    Tiles,
)
from scalegan.reports.subject import Subject
from scalegan.reports.sweep import label

HEADLINES = ("fid", "pr", "accuracy")
"""Metrics that the overview shows."""


def overview(subject: Subject) -> Section:
    """The few figures that one looks for first, and how far the run is."""
    numbers = subject.measured.numbers or _recorded(subject)
    tiles = [(figure(n.value), n.title) for n in numbers if n.metric in HEADLINES]
    step, total = subject.step, subject.total
    tiles.append((f"{step:,}", f"of {total:,} steps" if total else "steps"))
    if subject.gan:
        tiles.append((f"{len(subject.gan.card.class_names):,}", "classes"))
    if subject.rate:
        tiles.append((f"{subject.rate:,.0f}", f"images/s on {subject.device}"))
    blocks: list[Block] = [Tiles(tiles)]
    if total and step < total:
        blocks.append(Notice(
            f"The run has not reached its end: {step:,} of {total:,} steps. It is still training, "
            "or was stopped; the same command goes on."
        ))  # fmt: skip
    if subject.config is None:
        blocks.append(Notice("A snapshot alone: its run's settings and curves are not here."))
    elif subject.gan and subject.gan.card.step < step:
        blocks.append(Notice(
            f"Images and numbers are of the newest snapshot, step {subject.gan.card.step:,}; the "
            f"curves go on to step {step:,}."
        ))  # fmt: skip
    if "all" in subject.measured.lacking:
        blocks.append(Notice(f"Nothing was measured: {subject.measured.lacking['all']}."))
    return Section("Overview", blocks)


def curves(subject: Subject) -> Section:
    """What metrics.jsonl holds."""
    drawn = plots.curves(subject.lines)
    if not drawn:
        return Section("Curves", [Notice("There are none: metrics.jsonl has no value twice.")])
    file = subject.file("curves.png")
    first = Plot(drawn[0].svg, drawn[0].caption, file)  # the file has all of them
    return Section("Curves", [Gallery([first, *drawn[1:]])])


def metrics(subject: Subject) -> Section:
    """Numbers with their protocol: what was measured now, and what the run has recorded."""
    measured, blocks = subject.measured, []
    if measured.numbers:
        blocks += [
            Text(
                "Measured for this report, without truncation. Real images: the same of two "
                "random halves of the real images (accuracy: of images that the classifier has not "
                "seen); no generator needs to be better. Numbers compare only where the "
                "fingerprint is equal."
            ),
            *_numbers(measured.numbers),
        ]
    recorded = _recorded(subject)
    if recorded:
        step = next((n.protocol["samples"].get("step") for n in recorded), None)
        when = "" if step is None else f" at step {step:,}"
        blocks += [Text(f"Recorded by the run{when} (evaluation.json):"), *_numbers(recorded)]
    elif subject.config is not None:
        blocks.append(Notice("The run has recorded no evaluation of its own (evaluation.json)."))
    blocks += [
        Notice(f"Not measured, {name}: {reason}.") if name != "all" else
        Notice(f"Nothing was measured: {reason}.")
        for name, reason in measured.lacking.items()
    ]  # fmt: skip
    if not measured.numbers and not measured.lacking:
        blocks.append(Notice("Nothing was measured for this report (--num 0, or no snapshot)."))
    return Section("Metrics", blocks)


def _recorded(subject: Subject) -> list[Number]:
    path = subject.path / "evaluation.json"
    try:
        return read_result(path) if path.is_file() else []
    except DataError:  # half-written by hand, or of another version
        return []


def _numbers(numbers: list[Number]) -> list[Block]:
    """A table, what is odd about the numbers, and their protocols."""
    rows = []
    for number in numbers:
        known = [(number.spread[key], name) for key, name in SPREADS if key in number.spread]
        spread = f"{figure(known[0][0])} {known[0][1]}" if known else "-"
        rows.append((
            number.title, figure(number.value), figure(number.floor), spread,
            f"{number.num_real:,}" if number.num_real else "-", f"{number.num_fake:,}",
            number.fingerprint,
        ))  # fmt: skip
    head = ["", "value", "real images", "spread", "N real", "N generated", "fingerprint"]
    marks = dict.fromkeys(mark for number in numbers for mark in number.marks)
    return [Table(head, rows), *map(Notice, marks), Folded("Protocol", protocol(numbers))]


def protocol(numbers: list[Number]) -> str:
    """All that decides the numbers, as text; what several share is written once."""
    shared: dict[str, list[str]] = {}
    for number in numbers:
        said = {
            part: _brief(number.protocol[part]) for part in ("features", "reference", "samples")
        }
        text = json.dumps(said, indent=2, sort_keys=True, default=str)
        shared.setdefault(text, []).append(
            f"{number.title}: {json.dumps(number.protocol['definition'], sort_keys=True)}"
        )
    return "\n\n".join("\n".join([*titles, text]) for text, titles in shared.items())


def _brief(values: dict[str, object]) -> dict[str, object]:
    """Without lists of class names, which can be thousands long."""
    return {key: f"{len(value):,} names" if isinstance(value, list) and "class" in key else value
            for key, value in values.items()}  # fmt: skip


def truncation(subject: Subject) -> Section:
    """What truncation gives and takes."""
    title, steps = "Truncation", subject.measured.steps
    if subject.gan is None or not steps:
        return Section(title, [Notice("No sweep: nothing was measured.")])
    if len(steps) == 1:
        kind = type(subject.gan.generator).__name__
        return Section(
            title, [Notice(f"No sweep: {kind} has no truncation, or none was asked for.")]
        )
    table = [(label(step.truncation), {n.name: n for n in step.numbers}) for step in steps]
    names = list(dict.fromkeys(name for _, found in table for name in found))
    titles = [next(found[name].title for _, found in table if name in found) for name in names]
    kinds = {name: number.kind for _, found in table for name, number in found.items()}
    distance = next((name for name in names if kinds[name] == "distance"), "")
    rows = []
    for text, found in table:
        values = [figure(found[name].value) if name in found else "-" for name in names]
        rows.append((text, *values, found[distance].fingerprint if distance in found else "-"))
    num = steps[-1].numbers[0].num_fake if steps[-1].numbers else 0
    blocks: list[Block] = [
        Text(
            "More truncation makes typical images and less variety: precision rises, recall "
            f"falls. {num:,} images at each, of the same seeds and classes; the last row has none."
        ),
        Gallery(trades(table, distance, dict(zip(names, titles, strict=True)))),
        Table(["truncation", *titles, "fingerprint of the first"], rows),
    ]
    return Section(title, blocks)


def trades(
    table: Sequence[tuple[str, dict[str, Number]]], distance: str, titles: dict[str, str]
) -> list[Plot]:
    """A plot for each pair of numbers that was measured at two truncations or more."""
    found = []
    for x, y in (("is", distance), ("recall", "precision")):
        points = [
            plots.Point(across, up, text) for text, numbers in table
            if x in numbers and y in numbers
            and (across := numbers[x].value) is not None and (up := numbers[y].value) is not None
        ]  # fmt: skip
        if len(points) > 1:
            caption = f"{titles[y]} against {titles[x]}, by truncation"
            found.append(plots.trade(points, titles[x], titles[y], caption))
    return found


def cost(subject: Subject) -> Section:
    """Parameters, operations, speed and time."""
    gan = subject.gan
    rows: list[tuple[str, str]] = []
    if gan and subject.snapshot:
        has_discriminator = (subject.snapshot / "discriminator.safetensors").is_file()
        for name, found in costs(gan.card, has_discriminator).items():
            size, gflop = f"{found.parameters:,} parameters", found.flops / 1e9
            rows.append((name, f"{size}, {gflop:.3g} GFLOP per image forward"))
        if subject.config:
            shape, names = gan.card.shape, gan.card.class_names
            task = Task(shape, len(names), 0, image_side(gan.card))
            step = count(subject.config, task).step
            seen = gan.card.images_seen
            rows.append(("training", f"{step / 1e9:.3g} GFLOP per image, "
                         f"{step * seen / 1e15:.3g} PFLOP for {seen:,} images seen"))  # fmt: skip
        if subject.rate:
            speed = f"{subject.rate:,.1f} images/s on {subject.device}"
            rows.append(("sampling", f"{speed}, in batches of 32, decoding included"))
    starts, seconds = subject.starts(), subject.seconds()
    if seconds and subject.lines:
        hours, rest = divmod(round(seconds), 3600)
        text = f"{hours}:{rest // 60:02d}:{rest % 60:02d} from the first start to the last record"
        if len(starts) == 1:  # pauses between starts would count as slowness
            rate = subject.lines[-1]["images_seen"] / seconds
            text += f", {rate:,.0f} images/s with all that was evaluated and saved"
        else:
            text += f", with {len(starts)} starts and the pauses between them"
        rows.append(("time", text))
    if starts:
        last = starts[-1]
        kept = [f"{key} {last[key]}" for key in ("device", "threads", "ranks", "torch", "python")
                if key in last]  # fmt: skip
        rows.append(("trained on", ", ".join(kept)))
    if not rows:
        return Section("Cost", [Notice("Not known: there is neither a snapshot nor a record.")])
    return Section("Cost", [Table(["", ""], rows)])


def settings(subject: Subject) -> Section:
    """The run's config: the few that matter most, and all of it."""
    config = subject.config
    if config is None:
        card = subject.gan.card if subject.gan else None
        folded = [Folded("Model", str(card.model))] if card else []
        return Section("Config", [Notice("There is no config.toml: this is a snapshot."), *folded])
    train, optim = config.train, config.optim
    rows = [
        ("architecture", config.model.architecture),
        ("data", f"{config.data.shards or config.data.source}, "
                 f"{'with' if config.data.conditional else 'without'} classes"),
        ("autoencoder", f"{config.autoencoder.kind} {config.autoencoder.path}".strip()),
        ("duration", f"{train.duration}, batches of {train.batch_size}"),
        ("learning rate", f"{optim.learning_rate:g} at width {optim.base_width}"
                          if optim.base_width else f"{optim.learning_rate:g}"),
        ("objective", config.objective.adversarial),
        ("average", f"decay {train.ema_decay:g}"),
        ("seed", str(config.seed)),
    ]  # fmt: skip
    return Section("Config", [Table(["", ""], rows), Folded("config.toml", configs.write(config))])


def footer() -> list[str]:
    """When and by what the page was made."""
    return [f"Made by scalegan report, {time.strftime('%Y-%m-%d %H:%M')}"]
