"""A config becomes a train state and the rows it trains on."""

import copy
from typing import Any, NamedTuple

import torch
from torch import nn

from scalegan.data.rows import Pictures, Rows, collect, encode
from scalegan.data.sources import open_source
from scalegan.errors import ConfigError
from scalegan.interfaces import Autoencoder, DiscriminatorModule, GeneratorModule, Teacher
from scalegan.losses.objective import Objective
from scalegan.registry import ADVERSARIAL, ARCHITECTURES, AUTOENCODERS, SOURCES
from scalegan.runtime.rng import seed_all
from scalegan.runtime.world import World
from scalegan.settings import Config
from scalegan.train.optim import build_optimizer
from scalegan.train.state import TrainState


class Built(NamedTuple):
    """A run before its first step."""

    state: TrainState
    rows: Rows
    pictures: Pictures


def build(config: Config, world: World, teacher: Teacher | None = None) -> Built:
    """Read the data and make the networks; weights depend on the seed alone, not on ranks.

    Args:
        config: resolved and checked.
        teacher: frozen features for alignment; needed if its weight is not zero.

    Raises:
        ConfigError: if the parts do not fit together.
        DataError: if the data cannot be read.
    """
    if (config.objective.alignment.weight > 0) != (teacher is not None):
        raise ConfigError(
            "`objective.alignment.weight` is set without a teacher, or a teacher handed in "
            "without a weight",
            "hand a function to `train(..., teacher=)` and set the weight, or neither",
        )
    source = open_source(config.data.source, SOURCES)
    pictures = collect(source, config.data.size, is_shown=world.is_first)
    channels = 1 if pictures.is_grey else 3
    autoencoder = AUTOENCODERS[config.autoencoder.kind](channels, pictures.images.shape[-1])
    parts = world.size * config.train.micro_batches
    if config.train.batch_size % parts:
        raise ConfigError(
            f"`train.batch_size` {config.train.batch_size} does not divide into {world.size} ranks "
            f"of {config.train.micro_batches} micro-batches",
            f"choose a multiple of {parts}",
        )
    rows = encode(pictures, autoencoder, keep_images=teacher is not None)
    if len(rows) < config.train.batch_size:
        raise ConfigError(
            f"`train.batch_size` {config.train.batch_size} is larger than the data set "
            f"({len(rows)} pictures)"
        )
    state = build_state(config, world, autoencoder, len(pictures.class_names), teacher)
    return Built(state, rows, pictures)


def build_state(
    config: Config,
    world: World,
    autoencoder: Autoencoder,
    num_classes: int,
    teacher: Teacher | None = None,
) -> TrainState:
    """Networks, optimizers and average at their start values."""
    generator, discriminator = (
        network.to(world.device)
        for network in build_networks(config, autoencoder.shape, num_classes)
    )
    average = copy.deepcopy(generator).requires_grad_(False).eval()
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: build_optimizer(network, config.model.width, config.optim)
        for name, network in (("generator", generator), ("discriminator", discriminator))
    }
    objective = Objective(
        config.objective,
        ADVERSARIAL[config.objective.adversarial],
        generator.num_levels,
        teacher,
    )
    return TrainState(
        config, world, generator, discriminator, average, optimizers, autoencoder, objective
    )


def build_networks(
    config: Config, shape: tuple[int, int, int], num_classes: int
) -> tuple[GeneratorModule, DiscriminatorModule]:
    """Generator and discriminator of a config, with weights drawn from (seed, "init")."""
    architecture = ARCHITECTURES[config.model.architecture]
    alignment = config.objective.alignment
    features: dict[str, Any] = {"features": alignment.features} if alignment.weight > 0 else {}
    seed_all(config.seed, "init", "generator")
    generator = architecture.generator(config.model, shape, num_classes)
    seed_all(config.seed, "init", "discriminator")
    discriminator = architecture.discriminator(config.model, shape, num_classes, **features)
    return generator, discriminator


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def to_device(rows: Rows, device: torch.device) -> Rows:
    """Small data lives where the networks do."""
    images = None if rows.images is None else rows.images.to(device)
    return Rows(rows.stored.to(device), rows.labels.to(device), images)
