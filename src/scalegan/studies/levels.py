"""Multi-level guidance: on, off and by another schedule, and what blocks and levels contribute.

Source: GAT (arXiv 2509.24935), figures on early layers: principal components of the tokens after
each block, and the distance of the final image when one block is skipped.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from scalegan.config.schema import Config
from scalegan.features.tables import open_networks
from scalegan.inference.gan import GAN, load
from scalegan.interfaces import FeatureNetwork, Images
from scalegan.reports.comparison_data import ComparedRun
from scalegan.reports.image_grids import grid_figure
from scalegan.reports.page import Figure, Gallery, Plot, Section, Table, Text
from scalegan.reports.plots import Series, line_plot
from scalegan.studies.study import Findings, Request, StudyData

NUM_IMAGES = 64
"""Images, of seeds 0 and on, that distances are averaged over."""
NUM_SHOWN = 8
"""Images of a row."""


def levels(request: Request) -> list[Config]:
    """The recipe, one level alone, several without noise, and a linear schedule of the noise."""
    request.gat()
    changes: dict[str, dict[str, Any]] = {
        "guidance": {},
        "one-level": {"model.num_levels": 1},
        "no-guidance": {"objective.noise.min_information": 1.0},
        "linear": {"objective.noise.schedule": "linear"},
    }
    return [request.variant(name, change) for name, change in changes.items()]


@contextmanager
def skipped(block: nn.Module) -> Iterator[None]:
    """Let a block return its input; it works as before when the context ends."""
    handle = block.register_forward_hook(lambda module, inputs, output: inputs[0])
    try:
        yield
    finally:
        handle.remove()


def contributions(data: StudyData) -> Findings:
    """What blocks and levels contribute to the samples of every run that ended well."""
    (network, *_) = open_networks(data.features, torch.device(data.device)).values()
    found = {}
    figures: dict[str, list[Figure | Plot]] = {"Tokens after each block": [], "Levels": []}
    for run in data.finished:
        gan = load(run.folder, data.device)
        tokens = tokens_after_blocks(gan)
        components = [principal_components(x) for x in tokens]
        found[run.folder.name] = {
            **skip_distances(gan, network),
            "explained_variance": [shares for _, shares in components],
            "level_rms": level_rms(gan),
        }
        rows = torch.cat([image[:NUM_SHOWN] for image, _ in components])
        caption = f"{run.folder.name}; rows: blocks 1 to {len(tokens)}"
        figures["Tokens after each block"].append(grid_figure(rows, NUM_SHOWN, caption))
        images = gan.levels(NUM_SHOWN)
        caption = f"{run.folder.name}; rows: levels 1 to {len(images)}, coarse to fine"
        figures["Levels"].append(grid_figure(images.flatten(0, 1), NUM_SHOWN, caption))
    about = {
        "Tokens after each block": "The three largest principal components of all tokens after a "
        f"block, as red, green and blue. Columns: seeds 0 to {NUM_SHOWN - 1}.",
        "Levels": "The sum of all levels up to this one; the last row is the sample.",
    }
    sections = [Section(title, [Text(about[title]), Gallery(figures[title])]) for title in figures]
    label = network.identity()["label"]
    numbers = {"num_images": NUM_IMAGES, "features": label, "runs": found}
    return Findings(
        numbers, sentences(data.finished, found), [*number_sections(found, label), *sections]
    )


def sentences(runs: list[ComparedRun], found: dict[str, Any]) -> list[str]:
    """Which block matters most to the samples of each run."""
    lines = []
    for run in runs:
        distances = found[run.folder.name]["skipped_pixels"]
        most = max(range(len(distances)), key=distances.__getitem__)
        lines.append(
            f"{run.folder.name}: samples change most, by {distances[most]:.3g} of the pixels' "
            f"range, without block {most + 1} of {len(distances)}."
        )
    return lines


def number_sections(found: dict[str, Any], label: str) -> list[Section]:
    """Distances without each block, and sizes of the levels, as plots and tables."""
    if not found:
        return []
    plots: list[Figure | Plot] = []
    for of, unit in (("skipped_pixels", "of the pixels' range"), ("skipped_features", label)):
        series = [
            Series(
                run.rpartition("-seed-")[0],
                [(float(block), value) for block, value in enumerate(values[of], start=1)],
            )
            for run, values in found.items()
        ]
        title = f"Change of samples when one block is skipped, {unit}."
        plots.append(line_plot(series, "block", unit, title))
    text = (
        f"A block returns its input. Over {NUM_IMAGES} samples: root mean square in pixels, and "
        f"mean Euclidean distance in the features of {label}."
    )
    blocks = max(len(values["skipped_pixels"]) for values in found.values())
    rows = [[run, *map("{:.3g}".format, v["skipped_pixels"])] for run, v in found.items()]
    skip = Section(
        "Without one block",
        [Text(text), Gallery(plots), Table(["pixels", *map(str, range(1, blocks + 1))], rows)],
    )
    num_levels = max(len(values["level_rms"]) for values in found.values())
    rows = [
        [run, *map("{:.3g}".format, v["level_rms"]), *["-"] * (num_levels - len(v["level_rms"]))]
        for run, v in found.items()
    ]
    head = ["root mean square", *(f"level {i}" for i in range(1, num_levels + 1))]
    about = "What each level adds to the sum of those before it, in units of a sample."
    return [skip, Section("What each level adds", [Text(about), Table(head, rows)])]


def skip_distances(gan: GAN, network: FeatureNetwork) -> dict[str, list[float]]:
    """How far samples move, in pixels and in features, when each block in turn is skipped."""
    whole = gan.sample(NUM_IMAGES)
    distances: dict[str, list[float]] = {"skipped_pixels": [], "skipped_features": []}
    for block in gan.generator.blocks:
        with skipped(block):
            without = gan.sample(NUM_IMAGES)
        apart = (whole.double() - without.double()).square().mean().sqrt().item()
        distances["skipped_pixels"].append(apart / 255)
        distances["skipped_features"].append(feature_distance(network, whole, without))
    return distances


def feature_distance(network: FeatureNetwork, images: Images, others: Images) -> float:
    """Mean Euclidean distance of images, pair by pair, in a network's features."""
    pair = network(images).pooled.double() - network(others).pooled.double()
    return pair.norm(dim=1).mean().item()


@torch.no_grad()
def tokens_after_blocks(gan: GAN) -> list[Float[Tensor, "N T D"]]:
    """Tokens after every block, of the first samples."""
    found: list[Tensor] = []
    with ExitStack() as stack:
        for block in gan.generator.blocks:
            handle = block.register_forward_hook(lambda _, __, x: found.append(x.float().cpu()))
            stack.callback(handle.remove)
        gan.generator.synthesize(gan.style(NUM_IMAGES))
    return found


def principal_components(
    tokens: Float[Tensor, "N T D"],
) -> tuple[UInt8[Tensor, "N 3 G G"], list[float]]:
    """The three largest principal components of tokens as colors, and their shares of variance."""
    count, num_tokens, _ = tokens.shape
    flat = tokens.flatten(0, 1).double()
    flat = flat - flat.mean(dim=0)
    variances, directions = torch.linalg.eigh(flat.T @ flat)  # ascending
    variances, directions = variances.flip(0)[:3], directions.flip(1)[:, :3]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    colors = flat @ (directions * largest.sign())  # the sign of a direction is arbitrary
    low, high = colors.amin(dim=0), colors.amax(dim=0)
    colors = (colors - low) / (high - low).clamp(min=1e-12)
    side = round(num_tokens**0.5)
    images = (255 * colors).round().to(torch.uint8).view(count, side, side, 3).permute(0, 3, 1, 2)
    total = flat.square().sum().clamp(min=1e-300)
    return images, (variances.clamp(min=0) / total).tolist()


@torch.no_grad()
def level_rms(gan: GAN) -> list[float]:
    """Root mean square of what each level adds, coarse to fine."""
    levels = gan.generator.synthesize(gan.style(NUM_IMAGES)).double()
    added = torch.cat([levels[:, :1], levels.diff(dim=1)], dim=1)
    return added.square().mean(dim=(0, 2, 3, 4)).sqrt().tolist()
