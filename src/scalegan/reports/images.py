"""The parts of a report that show images: truncations, levels, progress, classes, neighbors."""

import torch

from scalegan.evaluation.measure import Number
from scalegan.evaluation.results import figure
from scalegan.inference.gan import GAN
from scalegan.interfaces import Images
from scalegan.reports.page import Block, Figure, Gallery, Notice, Plot, Section, Table, Text
from scalegan.reports.sheets import from_file, sheet
from scalegan.reports.subject import Subject
from scalegan.reports.sweep import label

COLUMNS = 8
MOST_CLASSES = 10
"""Rows of a grid."""
MOST_MOMENTS = 4
"""Grids of the way that training went."""
EXTREMES = 4
"""Worst classes, and as many best ones."""
NO_SNAPSHOT = "There is no snapshot yet to draw from; the run leaves one with each checkpoint."


def samples(subject: Subject) -> Section:
    """Grids at several truncations: a row per class, a column per seed."""
    gan = subject.gan
    if gan is None:
        return Section("Samples", [Notice(NO_SNAPSHOT), *progress(subject)])
    grids: list[Figure | Plot] = []
    for psi in reversed(subject.truncations):
        images = drawn(gan, psi)
        last = sorted((subject.path / "samples").glob("step-*.png"))
        file = subject.file(f"samples/{last[-1].name}") if psi is None and last else ""
        name = "no truncation" if psi is None else f"truncation {label(psi)}"
        grids.append(sheet(images, COLUMNS, name, file))
    names = [gan.card.class_names[index] for index in shown_classes(gan)]
    seeds = f"columns: seeds 0 to {COLUMNS - 1}, the same in all grids"
    if names:
        note = f"Rows: {', '.join(names)}; {seeds}."
    else:
        note = f"The generator knows no classes: seeds 0 to {COLUMNS * COLUMNS - 1}, row by row."
    blocks: list[Block] = [Text(note), Gallery(grids)]
    if len(subject.truncations) == 1:
        kind = type(gan.generator).__name__
        blocks.append(Notice(f"{kind} has no truncation, or none was asked for: one grid is all."))
    return Section("Samples", [*blocks, *progress(subject)])


def drawn(gan: GAN, truncation: float | None) -> Images:
    """Rows of images: one for each class that is shown, or of anything where there are none."""
    labels = shown_classes(gan)
    if not labels:
        return gan.sample(COLUMNS * COLUMNS, truncation=truncation)
    return torch.cat([gan.sample(COLUMNS, [index], truncation) for index in labels])


def shown_classes(gan: GAN) -> list[int]:
    """Some classes, from first to last."""
    count = len(gan.card.class_names)
    places = torch.linspace(0, count - 1, min(count, MOST_CLASSES))
    return [int(place) for place in places.round()]


def progress(subject: Subject) -> list[Block]:
    """Grids that the run has left while it trained."""
    found = sorted((subject.path / "samples").glob("step-*.png"))
    if len(found) < 2 and subject.gan:
        return []  # it would show the same as the grids above
    if not found:
        return [Notice("The run has left no grids of samples yet.")]
    places = torch.linspace(0, len(found) - 1, min(len(found), MOST_MOMENTS)).long().tolist()
    images = []
    for path in (found[place] for place in places):
        caption = f"step {int(path.stem.removeprefix('step-')):,}"
        images.append(from_file(path, caption, subject.file(f"samples/{path.name}"), 240))
    return [Text("While it trained, by fixed seeds:"), Gallery(images)]


def levels(subject: Subject) -> Section:
    """What each level paints, coarse to fine."""
    title, gan = "What each level paints", subject.gan
    if gan is None:
        return Section(title, [Notice(NO_SNAPSHOT)])
    if gan.num_levels == 1:
        only = f"{type(gan.generator).__name__} has one level: what it paints is the sample itself."
        return Section(title, [Text(only)])
    painted = gan.levels(COLUMNS)
    caption = (
        f"rows: levels 1 to {gan.num_levels}, coarse to fine; columns: seeds 0 to {COLUMNS - 1}"
    )
    text = "Every level adds to the sum of those before it; the last row is the sample."
    return Section(title, [Text(text), Gallery([sheet(painted.flatten(0, 1), COLUMNS, caption)])])


def classes(subject: Subject) -> Section:
    """Classes at the largest and at the smallest distance."""
    title, gan = "Worst and best classes", subject.gan
    number = next((n for n in subject.measured.numbers if n.metric == "per-class"), None)
    distances = number.details.get("distances") if number else None
    if gan is None or number is None or not distances:
        reason = subject.measured.lacking.get("per-class") or subject.measured.lacking.get("all")
        few = "no class has enough images of both sides; raise --num" if number else "not measured"
        return Section(title, [Notice(f"Not known: {reason or few}.")])
    names = gan.card.class_names
    order = sorted(distances, key=lambda index: -distances[index])
    count = min(EXTREMES, len(order) // 2)
    blocks: list[Block] = [Text(
        f"{number.title}: {figure(number.value)} over {len(distances):,} classes. Distances of "
        f"classes have few images each and compare with each other alone."
    )]  # fmt: skip
    for what, some in (("worst", order[:count]), ("best", order[len(order) - count :])):
        images = [
            sheet(gan.sample(COLUMNS, [names[index]]), COLUMNS,
                  f"{what}: {names[index]}, FD {figure(distances[index])}")
            for index in some
        ]  # fmt: skip
        blocks.append(Gallery(images))
    return Section(title, blocks)


def neighbors(subject: Subject) -> Section:
    """Some samples above the real images that are nearest to them."""
    title, measured = "Nearest training images", subject.measured
    near, gan = measured.near, subject.gan
    if near is None or gan is None:
        reason = measured.lacking.get("neighbors") or measured.lacking.get("all") or "not measured"
        return Section(title, [Notice(f"Not known: {reason}.")])
    shown = gan.sample(len(near.images))
    images = torch.cat([shown, near.images.transpose(0, 1).flatten(0, 1)])
    caption = f"first row: seeds 0 to {len(shown) - 1}; below each, its nearest real images"
    rows = [
        (f"nearest {k + 1}", *(figure(value) for value in near.distances[:, k].tolist()))
        for k in range(near.distances.shape[1])
    ]
    text = (
        "In the features of the network that measured, not in pixels. A sample that equals its "
        "neighbor was learned by heart."
    )
    table = Table(["distance", *(f"seed {seed}" for seed in range(len(shown)))], rows)
    copied = [n for n in measured.numbers if n.metric in ("copies", "nearest", "authenticity")]
    said = "; ".join(f"{n.title}: {figure(n.value)}{_floor(n)}" for n in copied)
    gallery = Gallery([sheet(images, len(shown), caption)])
    return Section(title, [Text(text), gallery, table, *([Text(f"{said}.")] if said else [])])


def _floor(number: Number) -> str:
    return "" if number.floor is None else f" (real images: {figure(number.floor)})"
