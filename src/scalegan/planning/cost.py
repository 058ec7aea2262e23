"""The cost of a training step: floating-point operations, and memory of activations.

Nothing here is a formula of one architecture: the objective runs once on tensors without values,
and the products that it computes and the tensors that it stores for the backward pass are counted.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from scalegan.config.reading import choose
from scalegan.config.schema import Config
from scalegan.features.pretrained import Dinov2, untrained_dinov2
from scalegan.inference.snapshot import Card, build_discriminator, build_generator
from scalegan.interfaces import Batch, Teacher
from scalegan.losses.objective import Objective
from scalegan.losses.tables import ADVERSARIAL
from scalegan.models.tables import ARCHITECTURES
from scalegan.runtime.parallel import blocks_of, keeps_casts, recompute


@dataclass(frozen=True)
class Task:
    """What is trained on."""

    shape: tuple[int, int, int]
    """(C, H, W) of a sample."""
    num_classes: int
    num_rows: int
    image_side: int
    note: str = ""
    """Where these numbers are from."""
    data_bytes: int = 0
    """Of prepared shards, where they are at hand."""


class Counts(NamedTuple):
    """Parameters and buffers of each network, and floating-point operations per image."""

    generator: int
    discriminator: int
    teacher: int
    generator_forward: int
    discriminator_forward: int
    """With features where there is a teacher."""
    step: int
    """All turns, forward and backward, recomputation included, with one forward of the generator
    where there are two; terms that come every few steps count in proportion."""
    gathered: int
    """Numbers that are whole at a time where weights are sharded: two blocks and the rest."""

    def of_run(self, config: Config, micro_batches: int = 1) -> int:
        """`step`, with the second forward where the first one's graph is not kept."""
        train = config.train
        is_kept = train.share_noise and micro_batches == 1
        is_counted = train.discriminator_turns > 1
        return self.step + (0 if is_kept or is_counted else self.generator_forward)


class Activations(NamedTuple):
    """Bytes kept for the backward pass, as `fixed + images * per_image`."""

    fixed: int
    per_image: int

    def at(self, images: int) -> int:
        return self.fixed + images * self.per_image


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of dense products, by PyTorch's formulas.

    PyTorch's own counter also follows modules, by hooks that fail where a penalty asks for
    gradients with respect to samples.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = operator(*args, **kwargs)
        if formula := flop_registry.get(operator.overloadpacket):
            self.total += formula(*args, **kwargs, out_val=result)
        return result


@cache
def count(config: Config, task: Task) -> Counts:
    """Count the parameters and operations of a step, on the meta device."""
    meta, alignment = torch.device("meta"), config.objective.alignment
    teacher = untrained_teacher(config, meta)
    of_teacher = _numbers(teacher.network) if isinstance(teacher, Dinov2) else 0
    # One image stands for all, but a part of a batch can only be taken of a whole one.
    penalty, train = config.objective.penalty, config.train
    images = 1 if penalty.share == 1 else train.batch_size // train.micro_batches
    with meta:
        parts = _parts(config, task, images, train.recompute, teacher)
        generator, discriminator, objective, z, labels, real, batch = parts
        sizes = _numbers(generator), _numbers(discriminator)
        with Operations() as forward:
            fake = generator(z, labels)
        with Operations() as passed:
            discriminator(fake.detach(), labels, with_features=alignment.is_used)
        every = penalty.every, config.objective.path_length.every or 1
        turns = [0.0, 0.0]
        for step, shares in ((0, [1 / n for n in every]), (1, [1 - 1 / n for n in every])):
            if not any(shares):
                continue  # every step is like the first
            discriminator.requires_grad_(True)
            with Operations() as first:
                terms = objective.discriminator_terms(
                    discriminator, real, fake.detach(), batch, step
                )
                _total(terms.losses).backward()
            discriminator.requires_grad_(False)
            with Operations() as second:
                terms = objective.generator_terms(generator, discriminator, real, fake, batch, step)
                _total(terms.losses).backward(retain_graph=True)
            for i, (counter, share) in enumerate(zip((first, second), shares, strict=True)):
                turns[i] += share * counter.total / images
    flops = forward.total // images
    # Of a step with several turns of the discriminator, each makes its own fakes.
    repeats = train.discriminator_turns
    total = repeats * turns[0] + turns[1] + flops * (1 if repeats == 1 else 1 + repeats)
    gathered = max(map(_gathered, (generator, discriminator)))
    return Counts(*sizes, of_teacher, flops, passed.total // images, round(total), gathered)


def _gathered(network: nn.Module) -> int:
    """Parameters outside blocks, one block that computes, and one that is fetched meanwhile."""
    blocks = [sum(p.numel() for p in block.parameters()) for block in blocks_of(network)]
    return sum(p.numel() for p in network.parameters()) - sum(blocks) + 2 * max(blocks)


@cache
def activations(config: Config, task: Task, keeps_fake: bool, mode: str = "") -> Activations:
    """Memory of the activations of one micro-batch, at its peak over a step.

    Args:
        keeps_fake: whether the generator's graph lives through the discriminator's turn.
        mode: of recomputation; empty = the config's.
    """
    mode = mode or config.train.recompute
    # A batch of one is a case of its own: the fullest moment can be another one.
    two, four = (_fullest(config, task, keeps_fake, images, mode) for images in (2, 4))
    per_image = (four - two) // 2
    return Activations(max(0, two - 2 * per_image), per_image)


def _fullest(config: Config, task: Task, keeps_fake: bool, images: int, mode: str) -> int:
    kept, largest = _kept(config, task, keeps_fake, images, mode)
    if mode == "none":
        return kept
    # In the backward pass one block at a time is there as if nothing had been left out.
    return kept + _kept(config, task, keeps_fake, images, "none")[1] - largest


def _kept(config: Config, task: Task, keeps_fake: bool, images: int, mode: str) -> tuple[int, int]:
    """Bytes that live between a forward and its backward pass, and how many one block makes."""
    is_reduced = config.train.precision == "bfloat16"

    def autocast() -> torch.autocast:
        return torch.autocast(
            "cpu", torch.bfloat16, enabled=is_reduced, cache_enabled=keeps_casts(mode)
        )

    with FakeTensorMode(allow_non_fake_inputs=True):
        parts = _parts(config, task, images, mode, _stand_in(config))
        generator, discriminator, objective, z, labels, real, batch = parts
        with Alive(generator, discriminator) as alive:
            with autocast():
                fake = generator(z, labels)
            of_generator = alive.total()
            with autocast():
                terms = objective.discriminator_terms(discriminator, real, fake.detach(), batch, 0)
            first = alive.total() - (0 if keeps_fake else of_generator)
            del terms
            discriminator.requires_grad_(False)
            with autocast():
                terms = objective.generator_terms(generator, discriminator, real, fake, batch, 0)
            second = alive.total()
            del terms
    return max(first, second), alive.largest


class Alive(TorchDispatchMode):
    """Tracks which of the tensors that are made while it is entered are still in memory.

    Attributes:
        largest: bytes that one block of the networks added at most.
    """

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}
        tensors = [t for n in networks for t in (*n.parameters(), *n.buffers())]
        references = [StorageWeakRef(tensor.untyped_storage()) for tensor in tensors]
        self.old = {reference.cdata: reference for reference in references}
        self.largest, self.before = 0, 0
        for network in networks:
            for block in blocks_of(network):
                block.register_forward_pre_hook(self._enter)
                block.register_forward_hook(self._leave)

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                if reference.cdata not in self.old and reference.cdata not in self.made:
                    self.made[reference.cdata] = reference, storage.nbytes()
        return result

    def _enter(self, *_: Any) -> None:
        self.before = self.total()

    def _leave(self, *_: Any) -> None:
        self.largest = max(self.largest, self.total() - self.before)

    def total(self) -> int:
        """Bytes that are still in memory."""
        self.made = {key: made for key, made in self.made.items() if not made[0].expired()}
        return sum(size for _, size in self.made.values())


def _parts(
    config: Config, task: Task, images: int, mode: str, teacher: Teacher | None
) -> tuple[Any, ...]:
    """Both networks, the objective, noise, labels, levels and a batch, on the default device."""
    architecture = ARCHITECTURES[config.model.architecture]
    sizes = config.model, task.shape, task.num_classes
    generator: Any = architecture.generator(*sizes)
    discriminator = architecture.discriminator(*sizes, config.objective.alignment.features)
    for network in (generator, discriminator):
        recompute(network, mode)
    adversarial = choose(ADVERSARIAL, config.objective.adversarial, "objective.adversarial")
    objective = Objective(config.objective, adversarial, generator.num_levels, teacher)
    z = torch.empty(images, *generator.z_shape)
    labels = torch.zeros(images, dtype=torch.int64)
    real = torch.empty(images, 1, *task.shape)
    pixels = torch.empty(images, 3, task.image_side, task.image_side, dtype=torch.uint8)
    batch = Batch(real[:, 0], labels, pixels)
    return generator, discriminator, objective, z, labels, real, batch


def untrained_teacher(config: Config, device: torch.device) -> Teacher | None:
    """A teacher that costs what the config's does; of one that will be handed in, a stand-in."""
    alignment = config.objective.alignment
    if alignment.is_used and alignment.teacher:
        return untrained_dinov2(alignment.teacher, alignment.teacher_path, device, alignment.side)
    return _stand_in(config)


def _stand_in(config: Config) -> Teacher | None:
    """A teacher of no cost: features of the right width, on DINOv2's grid."""
    alignment = config.objective.alignment
    if not alignment.is_used:
        return None
    num_tokens, width = 1 + (alignment.side // 14 or 1) ** 2, alignment.features
    return lambda images: torch.ones(len(images), num_tokens, width, device=images.device)


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _numbers(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.state_dict().values())


class Cost(NamedTuple):
    """Trained parameters of a network, and operations of its forward pass of one image."""

    parameters: int
    flops: int


def costs(card: Card, has_discriminator: bool) -> dict[str, Cost]:
    """Parameters and operations of a snapshot's networks, counted on tensors without values."""
    with torch.device("meta"):
        generator = build_generator(card)
        z = torch.empty(1, *generator.z_shape)
        labels = torch.zeros(1, dtype=torch.int64)
        levels = torch.empty(1, generator.num_levels, *card.shape)
        found = {"generator": _cost(generator, z, labels)}
        if has_discriminator:
            found["discriminator"] = _cost(build_discriminator(card), levels, labels)
    return found


def _cost(network: nn.Module, *inputs: torch.Tensor) -> Cost:
    with Operations() as counter, torch.no_grad():
        network.requires_grad_(False)(*inputs)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, counter.total)
