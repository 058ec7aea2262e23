"""The sections of a run's page that show images: samples, levels, classes, nearest images."""

import torch

from scalegan.evaluation.results import figure
from scalegan.inference.gan import GAN
from scalegan.interfaces import Images
from scalegan.reports.image_grids import file_figure, grid_figure, sample_grids
from scalegan.reports.page import Block, Figure, Gallery, Notice, Plot, Table, Text
from scalegan.reports.run_data import RunData
from scalegan.reports.truncation_sweep import Measurements, truncation_label

COLUMNS = 8
MAX_CLASSES = 10
"""Rows of a grid."""
MAX_EARLIER_GRIDS = 4
"""Grids that show how samples changed during training."""
NUM_EXTREMES = 4
"""Worst classes, and as many best ones."""
NO_SNAPSHOT = "There is no snapshot yet to draw from; the run leaves one with each checkpoint."


def samples_section(data: RunData, measured: Measurements) -> list[Block]:
    """Grids at several truncations, a row per class and a column per seed, and earlier ones."""
    gan, left = data.gan, list(sample_grids(data.path).values())
    if gan is None:
        return [Notice(NO_SNAPSHOT), *earlier_samples(data)]
    grids: list[Figure | Plot] = []
    for psi in reversed(measured.truncations):
        file = data.link(left[-1]) if psi is None and left else ""
        name = "no truncation" if psi is None else f"truncation {truncation_label(psi)}"
        grids.append(grid_figure(sample_classes(gan, psi), COLUMNS, name, file))
    names = [gan.card.class_names[index] for index in shown_classes(gan)]
    if names:
        seeds = f"columns: seeds 0 to {COLUMNS - 1}, the same in all grids"
        note = f"Rows: {', '.join(names)}; {seeds}."
    else:
        note = f"The generator knows no classes: seeds 0 to {COLUMNS * COLUMNS - 1}, row by row."
    blocks: list[Block] = [Text(note), Gallery(grids)]
    if len(measured.truncations) == 1:
        kind = type(gan.generator).__name__
        blocks.append(Notice(f"{kind} has no truncation, or none was asked for: one grid is all."))
    return [*blocks, *earlier_samples(data)]


def sample_classes(gan: GAN, truncation: float | None) -> Images:
    """Rows of images: one for each class that is shown, or of anything where there are none."""
    labels = shown_classes(gan)
    if not labels:
        return gan.sample(COLUMNS * COLUMNS, truncation=truncation)
    return torch.cat([gan.sample(COLUMNS, [index], truncation) for index in labels])


def shown_classes(gan: GAN) -> list[int]:
    """Some classes, evenly from first to last."""
    count = len(gan.card.class_names)
    places = torch.linspace(0, count - 1, min(count, MAX_CLASSES))
    return [int(place) for place in places.round()]


def earlier_samples(data: RunData) -> list[Block]:
    """Some of the grids that the run has left while it trained."""
    grids = list(sample_grids(data.path).items())
    if len(grids) < 2 and data.gan:
        return []  # it would show the same as the grids above
    if not grids:
        return [Notice("The run has left no grids of samples yet.")]
    places = torch.linspace(0, len(grids) - 1, min(len(grids), MAX_EARLIER_GRIDS)).long().tolist()
    figures = [
        file_figure(path, f"step {step:,}", data.link(path), 240)
        for step, path in (grids[place] for place in places)
    ]
    return [Text("While it trained, by fixed seeds:"), Gallery(figures)]


def levels_section(data: RunData, measured: Measurements) -> list[Block]:
    """What each level of the generator paints, coarse to fine."""
    gan = data.gan
    if gan is None:
        return [Notice(NO_SNAPSHOT)]
    if gan.num_levels == 1:
        kind = type(gan.generator).__name__
        return [Text(f"{kind} has one level: what it paints is the sample itself.")]
    rows = f"rows: levels 1 to {gan.num_levels}, coarse to fine"
    caption = f"{rows}; columns: seeds 0 to {COLUMNS - 1}"
    grid = grid_figure(gan.levels(COLUMNS).flatten(0, 1), COLUMNS, caption)
    text = "Every level adds to the sum of those before it; the last row is the sample."
    return [Text(text), Gallery([grid])]


def classes_section(data: RunData, measured: Measurements) -> list[Block]:
    """Samples of the classes at the largest and at the smallest distance."""
    gan = data.gan
    number = next((n for n in measured.numbers if n.metric == "per-class"), None)
    distances = number.details.get("distances") if number else None
    if gan is None or number is None or not distances:
        reason = measured.missing.get("per-class") or measured.missing.get("all")
        few = "no class has enough images of both sides; raise --num" if number else "not measured"
        return [Notice(f"Not known: {reason or few}.")]
    names = gan.card.class_names
    order = sorted(distances, key=lambda index: -distances[index])
    count = min(NUM_EXTREMES, len(order) // 2)
    text = (
        f"{number.title}: {figure(number.value)} over {len(distances):,} classes. Distances of "
        f"classes have few images each and compare with each other alone."
    )
    blocks: list[Block] = [Text(text)]
    for which, indices in (("worst", order[:count]), ("best", order[len(order) - count :])):
        grids = []
        for index in indices:
            caption = f"{which}: {names[index]}, FD {figure(distances[index])}"
            grids.append(grid_figure(gan.sample(COLUMNS, [names[index]]), COLUMNS, caption))
        blocks.append(Gallery(grids))
    return blocks


def nearest_section(data: RunData, measured: Measurements) -> list[Block]:
    """Some samples above the real images that are nearest to them."""
    near, gan = measured.nearest, data.gan
    if near is None or gan is None:
        reason = measured.missing.get("neighbors") or measured.missing.get("all") or "not measured"
        return [Notice(f"Not known: {reason}.")]
    samples = gan.sample(len(near.images))
    images = torch.cat([samples, near.images.transpose(0, 1).flatten(0, 1)])
    caption = f"first row: seeds 0 to {len(samples) - 1}; below each, its nearest real images"
    rows = [
        (f"nearest {k}", *map(figure, column))
        for k, column in enumerate(near.distances.T.tolist(), start=1)
    ]
    text = (
        "In the features of the network that measured, not in pixels. A sample that equals its "
        "neighbor was learned by heart."
    )
    blocks: list[Block] = [
        Text(text),
        Gallery([grid_figure(images, len(samples), caption)]),
        Table(["distance", *(f"seed {seed}" for seed in range(len(samples)))], rows),
    ]
    values = []
    for number in measured.numbers:
        if number.metric in ("copies", "nearest", "authenticity"):
            floor = number.floor
            real = "" if floor is None else f" (real images: {figure(floor)})"
            values.append(f"{number.title}: {figure(number.value)}{real}")
    return [*blocks, Text(f"{'; '.join(values)}.")] if values else blocks
