"""A config becomes a train state and the rows it trains on."""

import copy
from typing import Any, NamedTuple

import torch
from torch import nn

from scalegan.data.rows import Pictures, Rows, collect, encode
from scalegan.errors import ConfigError
from scalegan.interfaces import Autoencoder, DiscriminatorModule, GeneratorModule, Teacher
from scalegan.losses.objective import Objective
from scalegan.registry import ADVERSARIAL, ARCHITECTURES, AUTOENCODERS, FEATURES, SOURCES
from scalegan.runtime.rng import seed_all
from scalegan.runtime.world import World
from scalegan.settings import AlignmentConfig, Config
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
        teacher: frozen features for alignment, where the config names none.

    Raises:
        ConfigError: if the parts do not fit together.
        DataError: if the data cannot be read.
    """
    teacher = build_teacher(config.objective.alignment, world.device, teacher)
    kind, _, where = config.data.source.partition(":")
    if kind not in SOURCES:
        raise ConfigError(
            f"`data.source` is `{config.data.source}`; expected one of: {', '.join(SOURCES)}",
            "a path follows the name and a colon, as in npz:PATH",
        )
    pictures = collect(SOURCES[kind](where))
    channels = 1 if pictures.is_grey else 3
    autoencoder = AUTOENCODERS[config.autoencoder.kind](
        config.autoencoder, channels, pictures.images.shape[-1]
    )
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


def build_teacher(
    alignment: AlignmentConfig, device: torch.device, given: Teacher | None
) -> Teacher | None:
    """The teacher that the config names, or the one handed in; None where nothing is aligned.

    Raises:
        ConfigError: if there is one too many or too few, or its width is not the config's.
    """
    if alignment.weight == 0 and given is None:
        return None
    if alignment.weight == 0 or (given is None) == (not alignment.teacher):
        raise ConfigError(
            "alignment needs a weight and one teacher: named in the config, or handed in",
            "set `objective.alignment.weight`, and either `objective.alignment.teacher` or "
            "`train(..., teacher=)`",
        )
    if given is not None:
        if not alignment.features:
            raise ConfigError(
                "`objective.alignment.features` is not set",
                "a teacher handed in as a function needs its feature width stated",
            )
        return given
    make = FEATURES[alignment.teacher]
    teacher = make(alignment.teacher_path, device, alignment.side)
    if teacher.width != alignment.features:
        raise ConfigError(
            f"`objective.alignment.features` is {alignment.features} but the features of teacher "
            f"`{alignment.teacher}` have width {teacher.width}",
            "leave `features` out to take the teacher's",
        )
    return teacher


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
