"""Pixels against latents of the same images, at equal operations of training.

GAT (arXiv 2509.24935) trains on latents; this asks what that is worth on data of one's own.
"""

from pathlib import Path
from typing import Any

import torch

from scalegan.config.models import GATConfig
from scalegan.config.schema import Config
from scalegan.data.manifest import read_manifest
from scalegan.errors import ConfigError
from scalegan.inference.gan import GAN, load
from scalegan.planning.cost import Operations
from scalegan.planning.plan import read_task
from scalegan.reports.comparison_page import spread_text
from scalegan.reports.page import Section, Table, Text
from scalegan.studies.study import Findings, Request, StudyData

PIXELS, LATENTS = "pixels", "latents"
COUNTED = (
    "Equal are the operations of training, which neither encode nor decode. Preparing the latents "
    "is not counted. The operations of a sample are shown without decoding and with it, its time "
    "with it."
)


def latents(request: Request) -> list[Config]:
    """The recipe on pixels, and on latents of the same images with as many tokens.

    Raises:
        ConfigError: if there are no latents, or not of the same images.
    """
    if not request.shards:
        raise ConfigError(
            "`scalegan study latents` needs `--shards`",
            "name shards that `scalegan prepare --autoencoder ... --keep-images` wrote",
        )
    pixels = request.variant(PIXELS)
    if pixels.autoencoder.kind != "identity":
        raise ConfigError(
            f"the recipe has the autoencoder `{pixels.autoencoder.kind}`; expected identity",
            "choose a recipe on pixels; the latents are those of `--shards`",
        )
    about = read_manifest(Path(request.shards))["autoencoder"]["config"]
    changes: dict[str, Any] = {f"autoencoder.{key}": value for key, value in about.items()}
    changes |= {"data.shards": request.shards, "data.source": "", "data.size": 0}
    of_latents = request.variant(LATENTS, changes)
    tasks = [read_task(config) for config in (pixels, of_latents)]
    facts = [(task.num_rows, task.num_classes, task.image_side) for task in tasks]
    if facts[0] != facts[1]:
        names = "(images, classes, side)"
        raise ConfigError(
            f"`{request.shards}` holds {facts[1]} {names}, but the recipe's data {facts[0]}",
            "prepare latents of the recipe's own images",
        )
    if isinstance(pixels.model, GATConfig):
        factor = tasks[0].shape[1] // tasks[1].shape[1]
        patch = max(1, pixels.model.patch_size // factor)
        of_latents = request.variant(LATENTS, changes | {"model.patch_size": patch})
    return [pixels, of_latents]


def costs(data: StudyData) -> Findings:
    """What training and sampling cost on both sides, decoding included and not."""
    rows, numbers = [], {}
    for entry in data.comparison.plan["entries"]:
        runs = [run for run in data.comparison.of(entry["name"]) if run.status == "finished"]
        if not runs:
            continue
        decoding = decoding_operations(load(runs[0].folder))
        forward = entry["generator_forward"]
        numbers[entry["name"]] = {
            "training_operations_per_step": entry["operations_per_step"],
            "operations_per_sample": forward,
            "operations_per_sample_with_decoding": forward + decoding,
        }
        seconds = [1000 * run.sample_seconds for run in runs if run.sample_seconds]
        cells = [entry["operations_per_step"] / 1e9, forward / 1e6, (forward + decoding) / 1e6]
        rows.append([entry["name"], *(f"{cell:,.4g}" for cell in cells), spread_text(seconds)])
    head = [
        "variant",
        "training, GFLOP a step",
        "sample, MFLOP",
        "with decoding, MFLOP",
        "with decoding, ms",
    ]
    finals = [
        f"{name}: {data.distance} {spread_text([run.final[data.distance] for run in runs])}."
        for name in (PIXELS, LATENTS)
        if (runs := [run for run in data.measured if run.entry["name"] == name])
    ]
    section = Section("Training and sampling", [Text(COUNTED), Table(head, rows)])
    return Findings({"counted": COUNTED, "variants": numbers}, finals, [section])


@torch.no_grad()
def decoding_operations(gan: GAN) -> int:
    """Operations that decode one sample; of pixels none."""
    with Operations() as counter:
        gan.autoencoder.decode(torch.zeros(1, *gan.card.shape))
    return counter.total
