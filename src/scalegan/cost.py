"""What a step costs: operations, and bytes kept for the backward pass, for any architecture.

Nothing here is a formula of one architecture: the objective runs once on tensors without values,
and the products it makes and the tensors it keeps are counted.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from scalegan.features import dinov2
from scalegan.interfaces import Batch, Teacher
from scalegan.losses.objective import Objective
from scalegan.registry import ADVERSARIAL, ARCHITECTURES
from scalegan.settings import Config


@dataclass(frozen=True)
class Task:
    """What is trained on."""

    shape: tuple[int, int, int]
    """(C, H, W) of a sample."""
    num_classes: int
    num_rows: int
    picture_side: int
    note: str = ""
    """Where these numbers are from."""
    data_bytes: int = 0
    """Of prepared shards, where they are at hand."""


class Counts(NamedTuple):
    """Numbers saved with each network, and floating-point operations per image."""

    generator: int
    discriminator: int
    teacher: int
    generator_forward: int
    discriminator_forward: int
    """With features where there is a teacher."""
    step: int
    """All turns, forward and backward, with one forward of the generator where there are two;
    terms that come every few steps count in proportion."""

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
    fixed_recomputed: int
    per_image_recomputed: int
    """If every block kept only its input and were run again in the backward pass."""

    def at(self, images: int) -> int:
        return self.fixed + images * self.per_image


class Operations(FlopCounterMode):
    """Counts operations of everything together.

    PyTorch's counter also follows modules, by hooks that fail where a penalty asks for gradients
    with respect to samples.
    """

    class Nowhere:
        """In place of its tracker of modules."""

        parents = frozenset({"Global"})

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker = self.Nowhere()  # type: ignore[assignment]


def networks(config: Config, task: Task) -> tuple[Any, Any]:
    """The two networks on whatever device is the default now."""
    architecture = ARCHITECTURES[config.model.architecture]
    alignment = config.objective.alignment
    features = {"features": alignment.features} if alignment.weight > 0 else {}
    generator = architecture.generator(config.model, task.shape, task.num_classes)
    return generator, architecture.discriminator(
        config.model, task.shape, task.num_classes, **features
    )


def count(config: Config, task: Task) -> Counts:
    """Count on the meta device, where tensors have shapes and nothing else."""
    meta, alignment = torch.device("meta"), config.objective.alignment
    teacher, of_teacher = None, 0
    if alignment.weight > 0:
        teacher = _stand_in(config, task)
        if alignment.teacher:
            args = (alignment.teacher, alignment.teacher_path, meta, alignment.side)
            teacher = dinov2.untrained(*args)
            of_teacher = _numbers(teacher.network)
    with meta:
        generator, discriminator = networks(config, task)
        sizes = _numbers(generator), _numbers(discriminator)
        objective = _objective(config, generator.num_levels, teacher)
        z, labels, real, batch = _inputs(config, task, generator, 1)
        with Operations() as forward:
            fake = generator(z, labels)
        with Operations() as judged:
            with_features = {"with_features": True} if alignment.weight > 0 else {}
            discriminator(fake.detach(), labels, **with_features)
        every = config.objective.penalty.every, config.objective.path_length.every or 1
        turns = [0.0, 0.0]
        for step, shares in ((0, [1 / n for n in every]), (1, [1 - 1 / n for n in every])):
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
                turns[i] += share * counter.get_total_flops()
    flops = forward.get_total_flops()
    # Of a step with several turns of the discriminator, each makes its own fakes.
    repeats = config.train.discriminator_turns
    total = repeats * turns[0] + turns[1] + flops * (1 if repeats == 1 else 1 + repeats)
    return Counts(*sizes, of_teacher, flops, judged.get_total_flops(), round(total))


def activations(config: Config, task: Task, keeps_fake: bool) -> Activations:
    """What one micro-batch keeps at the fullest moment of a step.

    Args:
        keeps_fake: whether the generator's graph lives through the discriminator's turn.
    """
    one, two = (_kept(config, task, keeps_fake, images) for images in (1, 2))
    slopes = [b - a for a, b in zip(one, two, strict=True)]
    fixed = [a - slope for a, slope in zip(one, slopes, strict=True)]
    return Activations(fixed[0], slopes[0], fixed[1], slopes[1])


def _kept(config: Config, task: Task, keeps_fake: bool, images: int) -> tuple[int, int]:
    """Bytes kept by a micro-batch: as it is, and with blocks recomputed."""
    is_reduced = config.train.precision == "bfloat16"
    with FakeTensorMode(allow_non_fake_inputs=True):
        generator, discriminator = networks(config, task)
        teacher = _stand_in(config, task) if config.objective.alignment.weight > 0 else None
        objective = _objective(config, generator.num_levels, teacher)
        z, labels, real, batch = _inputs(config, task, generator, images)
        saved = Saved(generator, discriminator)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_reduced):
            with saved:
                fake = generator(z, labels)
            of_generator = saved.take()
            with saved:
                objective.discriminator_terms(discriminator, real, fake.detach(), batch, 0)
            first = saved.take()
            discriminator.requires_grad_(False)
            with saved:
                objective.generator_terms(generator, discriminator, real, fake, batch, 0)
            second = saved.take()
    if keeps_fake:
        return first[0] + of_generator[0], first[1] + of_generator[1]
    both = zip(first, second, of_generator, strict=True)
    plain, recomputed = (max(a, b + c) for a, b, c in both)
    return plain, recomputed


class Saved:
    """Counts the bytes that autograd keeps while it is entered, parameters not included."""

    def __init__(self, *networks: nn.Module) -> None:
        self.own = {
            tensor.untyped_storage()._cdata
            for network in networks
            for tensor in [*network.parameters(), *network.buffers()]
        }
        self.block: int | None = None
        self.calls = 0
        for network in networks:
            for block in network.blocks:  # type: ignore[union-attr]
                block.register_forward_pre_hook(self._enter)
                block.register_forward_hook(self._leave)
        self._clear()

    def _clear(self) -> None:
        self.seen: dict[int, Tensor] = {}  # alive, so that no address is used twice
        self.outside, self.inputs = 0, 0
        self.blocks: dict[int, int] = {}

    def _enter(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.calls += 1
        self.block = self.calls
        self.inputs += args[0].nbytes

    def _leave(self, *_: Any) -> None:
        self.block = None

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own and storage._cdata not in self.seen:
            self.seen[storage._cdata] = tensor
            if self.block is None:
                self.outside += storage.nbytes()
            else:
                self.blocks[self.block] = self.blocks.get(self.block, 0) + storage.nbytes()
        return tensor

    def __enter__(self) -> None:
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self.hooks.__enter__()

    def __exit__(self, *_: object) -> None:
        self.hooks.__exit__()

    def take(self) -> tuple[int, int]:
        """Bytes since the last time: all, and with blocks that keep their input alone."""
        everything = self.outside + sum(self.blocks.values())
        recomputed = self.outside + self.inputs + max(self.blocks.values(), default=0)
        self._clear()
        return everything, recomputed


def _inputs(config: Config, task: Task, generator: Any, images: int) -> tuple[Any, ...]:
    z = torch.empty(images, *generator.z_shape)
    labels = torch.zeros(images, dtype=torch.int64)
    real = torch.empty(images, 1, *task.shape)
    side = task.picture_side
    pictures = torch.empty(images, 3, side, side, dtype=torch.uint8)
    return z, labels, real, Batch(real[:, 0], labels, pictures)


def _objective(config: Config, num_levels: int, teacher: Teacher | None) -> Objective:
    adversarial = ADVERSARIAL[config.objective.adversarial]
    return Objective(config.objective, adversarial, num_levels, teacher)


def _stand_in(config: Config, task: Task) -> Teacher:
    """A teacher of no cost: features of the right width, on DINOv2's grid."""
    grid, width = config.objective.alignment.side // 14 or 1, config.objective.alignment.features
    return lambda pictures: torch.empty(len(pictures), 1 + grid**2, width, device=pictures.device)


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _numbers(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.state_dict().values())
