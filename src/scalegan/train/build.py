"""A config becomes a train state and the rows it trains on."""

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from scalegan.autoencoders.tables import kind_of, make_autoencoder
from scalegan.config.objective import AlignmentConfig
from scalegan.config.reading import choose
from scalegan.config.schema import Config
from scalegan.data.loader import Loader, order
from scalegan.data.memory import (
    Dataset,
    LabeledImages,
    Rows,
    encode_rows,
    hold_out,
    read_into_memory,
)
from scalegan.data.shards import Shards
from scalegan.data.sources import class_notices, open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import ConfigError, DataError
from scalegan.features.tables import TEACHERS
from scalegan.interfaces import (
    Autoencoder,
    Batch,
    Discriminator,
    Generator,
    MixesStyles,
    Teacher,
    WantsOrthogonalWeights,
)
from scalegan.layers.batch_norm import synchronize
from scalegan.losses.objective import Objective
from scalegan.losses.tables import ADVERSARIAL
from scalegan.models.tables import ARCHITECTURES
from scalegan.runtime import parallel, sharding
from scalegan.runtime.rng import seed_all
from scalegan.runtime.world import World
from scalegan.train.optim import build_optimizer
from scalegan.train.state import TrainState, WholeForms


class Built(NamedTuple):
    """A run before its first step."""

    state: TrainState
    rows: Dataset
    images: LabeledImages
    """Of shards: no more than MAX_CLASSIFIER_IMAGES, and none where nothing is evaluated."""
    held_out: Batch | None = None
    """Rows that are not among `rows`."""


MAX_CLASSIFIER_IMAGES = 10_000
"""Largest number of images of shards that a classifier is trained on."""


def build(config: Config, world: World, teacher: Teacher | None = None) -> Built:
    """Read the data and make the networks; weights depend on the seed alone, not on ranks.

    Args:
        config: resolved and checked.
        teacher: frozen features for alignment, where the config names none.

    Raises:
        ConfigError: if the parts do not fit together.
        DataError: if the data cannot be read.
    """
    check_names(config)
    teacher = build_teacher(config.objective.alignment, world.device, teacher)
    parts = world.size * config.train.micro_batches
    if config.train.batch_size % parts:
        raise ConfigError(
            f"`train.batch_size` {config.train.batch_size} does not divide into {world.size} ranks "
            f"of {config.train.micro_batches} micro-batches",
            f"choose a multiple of {parts}",
        )
    read = from_shards if config.data.shards else from_source
    rows: Dataset
    autoencoder, rows, images = read(config, world, with_images=teacher is not None)
    held_out = None
    if config.data.held_out:
        rows, held_out = hold_out(rows, config.data.held_out, config.seed)
    if len(rows) < config.train.batch_size:
        raise ConfigError(
            f"`train.batch_size` {config.train.batch_size} is larger than the data set "
            f"({len(rows)} images)"
        )
    num_classes = len(images.class_names) if config.data.conditional else 0
    state = build_state(config, world, autoencoder, num_classes, teacher)
    state.shards = rows.fingerprint
    return Built(state, rows, images, held_out)


def check_names(config: Config) -> None:
    """Raise ConfigError for a name that no table holds, before any data is read."""
    choose(ARCHITECTURES, config.model.architecture, "model.architecture")
    choose(ADVERSARIAL, config.objective.adversarial, "objective.adversarial")
    kind_of(config.autoencoder)


def build_teacher(
    alignment: AlignmentConfig, device: torch.device, given: Teacher | None
) -> Teacher | None:
    """The teacher that the config names, or the one handed in; None where nothing is aligned.

    Raises:
        ConfigError: if there is one too many or too few, or its width is not the config's.
    """
    if not alignment.is_used and given is None:
        return None
    if not alignment.is_used or (given is None) == (not alignment.teacher):
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
    make = TEACHERS[alignment.teacher]
    teacher = make(alignment.teacher_path, device, alignment.side)
    if teacher.width != alignment.features:
        raise ConfigError(
            f"`objective.alignment.features` is {alignment.features} but the features of teacher "
            f"`{alignment.teacher}` have width {teacher.width}",
            "leave `features` out to take the teacher's",
        )
    return teacher


def from_source(
    config: Config, world: World, with_images: bool
) -> tuple[Autoencoder, Rows, LabeledImages]:
    """Encode a whole source into memory."""
    source = open_source(config.data.source, SOURCES)
    images = read_into_memory(source, config.data.size, is_shown=world.is_first)
    channels = 1 if images.is_gray else 3
    autoencoder = make_autoencoder(config.autoencoder, channels, images.images.shape[-1])
    return autoencoder, encode_rows(images, autoencoder, with_images), images


def from_shards(
    config: Config, world: World, with_images: bool
) -> tuple[Autoencoder, Shards, LabeledImages]:
    """Open prepared shards and the autoencoder that they were made by.

    Raises:
        ConfigError: if the config names another autoencoder.
        DataError: if the shards are damaged or lack the images that are needed.
    """
    shards = Shards(Path(config.data.shards), with_images)
    about = shards.manifest["autoencoder"]
    if config.autoencoder.kind != about["config"]["kind"]:
        raise ConfigError(
            f"the shards `{config.data.shards}` were made by autoencoder "
            f"`{about['config']['kind']}`, but `autoencoder.kind` is `{config.autoencoder.kind}`",
            "set it to theirs, or prepare again",
        )
    manifest = shards.manifest
    autoencoder = make_autoencoder(config.autoencoder, manifest["channels"], manifest["side"])
    identity = autoencoder.identity()
    for name in sorted(identity.keys() | about["identity"].keys()):
        if identity.get(name) != about["identity"].get(name):
            raise ConfigError(
                f"the shards `{config.data.shards}` were made by an autoencoder whose `{name}` is "
                f"{about['identity'].get(name)!r}, not {identity.get(name)!r}",
                "use the autoencoder they were made by, or prepare again",
            )
    if config.data.verify == "digests":
        shards.verify(world.rank, world.size)
    wanted = min(MAX_CLASSIFIER_IMAGES, len(shards)) if config.evaluate.num_images else 0
    return autoencoder, shards, images_to_measure(shards, autoencoder, wanted)


def images_to_measure(shards: Shards, autoencoder: Autoencoder, count: int) -> LabeledImages:
    """So many images of shards, the same ones every time."""
    rows = order(len(shards), 0, 0, 0, count) if count else torch.empty(0, dtype=torch.int64)
    if shards.manifest["keep_images"]:
        batch = Shards(shards.path, with_images=True).read(rows)
        assert batch.images is not None
        found = batch.images
    elif count and shards.manifest["autoencoder"]["config"]["kind"] != "identity":
        raise DataError(
            f"`{shards.path}` holds no images, which `evaluate.num_images` needs",
            "prepare with --keep-images, or set it to 0",
        )
    else:
        batch = shards.read(rows)
        found = autoencoder.decode(autoencoder.sample(batch.stored))
    about = shards.manifest
    notes = class_notices(about["class_names"], shards.labels.tolist())
    is_gray = about["channels"] == 1
    return LabeledImages(found, batch.labels, about["class_names"], is_gray, tuple(notes))


def build_loader(built: Built) -> Loader:
    """The endless batches of a run; what is in memory moves to the device and needs no threads."""
    config, world = built.state.config, built.state.world
    rows = built.rows.to(world.device)
    num_threads = 0 if rows.is_in_memory else config.train.workers
    parts = (world.rank, world.size, config.train.micro_batches)
    return Loader(rows, config.seed, config.train.batch_size, parts, world.device, num_threads)


def build_state(
    config: Config,
    world: World,
    autoencoder: Autoencoder,
    num_classes: int,
    teacher: Teacher | None = None,
) -> TrainState:
    """Networks, optimizers and average at their start values."""
    generator, discriminator = build_networks(config, autoencoder.shape, num_classes)
    generator.to(world.device)
    discriminator.to(world.device)
    check_abilities(config, generator, discriminator)
    average = copy.deepcopy(generator).requires_grad_(False).eval()
    whole_forms = None
    if config.train.parallel == "shard" and world.size > 1:
        forms = sharding.whole_form(average), sharding.whole_form(discriminator)
        whole_forms = WholeForms(*forms)
    for network in (generator, discriminator):
        parallel.recompute(network, config.train.recompute)
        if config.train.compile:
            parallel.compile_blocks(network)
    for network in (generator, discriminator, average) if whole_forms else ():
        sharding.shard(network, world)
    if world.size > 1:
        for network in (generator, discriminator):
            synchronize(network, world)
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: build_optimizer(name, network, config)
        for name, network in (("generator", generator), ("discriminator", discriminator))
    }
    objective = Objective(
        config.objective,
        choose(ADVERSARIAL, config.objective.adversarial, "objective.adversarial"),
        generator.num_levels,
        teacher,
        world.device,
    )
    return TrainState(
        config,
        world,
        generator,
        discriminator,
        average,
        optimizers,
        autoencoder,
        objective,
        whole_forms=whole_forms,
    )


def build_networks(
    config: Config, shape: tuple[int, int, int], num_classes: int
) -> tuple[Generator, Discriminator]:
    """Generator and discriminator of a config, with weights drawn from (seed, "init")."""
    architecture = choose(ARCHITECTURES, config.model.architecture, "model.architecture")
    features = config.objective.alignment.features  # 0 where nothing is aligned
    seed_all(config.seed, "init", "generator")
    generator = architecture.generator(config.model, shape, num_classes)
    seed_all(config.seed, "init", "discriminator")
    discriminator = architecture.discriminator(config.model, shape, num_classes, features)
    return generator, discriminator


def check_abilities(config: Config, generator: Generator, discriminator: Discriminator) -> None:
    """Raise ConfigError where a setting asks for what the networks cannot do."""
    wanted = {
        "train.style_mixing": (config.train.style_mixing, MixesStyles),
        "objective.orthogonal": (config.objective.orthogonal, WantsOrthogonalWeights),
    }
    for name, (value, ability) in wanted.items():
        if value and not isinstance(generator, ability):
            raise ConfigError(f"`{name}` is set but `{config.model.architecture}` has no such term")
    train = config.train
    usual = {"recompute": "none", "parallel": "replicate"}
    asked = [name for name, value in usual.items() if getattr(train, name) != value]
    for network in (generator, discriminator):
        saved = [v for block in network.blocks for v in block.state_dict(keep_vars=True).values()]
        if asked and not all(isinstance(value, nn.Parameter) for value in saved):
            raise ConfigError(
                f"`train.{asked[0]}` is `{getattr(train, asked[0])}` but a forward pass of "
                f"`{config.model.architecture}` moves statistics, and would move them twice",
                "leave it out; it is for networks without batch statistics, such as gat",
            )


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
