"""What a run will need, before it is started: parameters, operations, memory, time and disk.

Operations and activations are not formulas of one architecture: the objective runs once on tensors
without values, and the calls and the tensors kept for the backward pass are counted. G and D are
the generator and the discriminator.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from scalegan.config import count_steps
from scalegan.errors import ConfigError
from scalegan.features import dinov2
from scalegan.interfaces import Batch, Teacher
from scalegan.losses.objective import Objective
from scalegan.registry import ADVERSARIAL, ARCHITECTURES
from scalegan.settings import Config

UTILISATION = 0.3
"""Share of the peak that an estimate assumes; a guess until it is measured, and so marked."""
USABLE = 0.9
"""Share of the memory that is planned with; the rest is for temporaries and fragments."""
CHECKPOINTS = 3  # on the disk at a time: two are kept, and a new one is verified before one goes


class Device(NamedTuple):
    """What a kind of device can do; bytes, and operations per second of dense products."""

    label: str
    memory: float
    bfloat16: float
    float32: float


# Makers' data sheets, dense, without TF32: nvidia.com/h100, /h200, /a100, /l40s; RTX 4090 and 3090:
# Ada and Ampere GA102 whitepapers, appendix A (tensor rate with float32 accumulation).
DEVICES = {
    "h200": Device("H200", 141e9, 989.4e12, 66.9e12),
    "h100": Device("H100", 80e9, 989.4e12, 66.9e12),
    "a100-80": Device("A100-SXM4-80GB", 80e9, 312e12, 19.5e12),
    "a100-40": Device("A100-SXM4-40GB", 40e9, 312e12, 19.5e12),
    "l40s": Device("L40S", 48e9, 362.1e12, 91.6e12),
    "rtx4090": Device("RTX 4090", 24e9, 165.2e12, 82.6e12),
    "rtx3090": Device("RTX 3090", 24e9, 71e12, 35.6e12),
}


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


class Counts(NamedTuple):
    """Numbers saved with each network, and floating-point operations per image."""

    generator: int
    discriminator: int
    teacher: int
    generator_forward: float
    discriminator_forward: float
    """With features where there is a teacher."""
    step: float
    """Both turns, forward and backward, with one forward of the generator."""


class Activations(NamedTuple):
    """Bytes kept for the backward pass, as `fixed + images * per_image`."""

    fixed: float
    per_image: float
    fixed_recomputed: float
    per_image_recomputed: float
    """If every block kept only its input and were run again in the backward pass."""

    def at(self, images: int) -> float:
        return self.fixed + images * self.per_image


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
        with FlopCounterMode(display=False) as forward:
            fake = generator(z, labels)
        with FlopCounterMode(display=False) as judged, torch.no_grad():
            with_features = {"with_features": True} if alignment.weight > 0 else {}
            discriminator(fake, labels, **with_features)
        with FlopCounterMode(display=False) as turns:
            terms = objective.discriminator_terms(discriminator, real, fake.detach(), batch, 0)
            _total(terms.losses).backward()
            discriminator.requires_grad_(False)
            terms = objective.generator_terms(discriminator, real, fake, batch)
            _total(terms.losses).backward()
    flops = forward.get_total_flops()
    step = flops + turns.get_total_flops()
    return Counts(*sizes, of_teacher, flops, judged.get_total_flops(), step)


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
                objective.generator_terms(discriminator, real, fake, batch)
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


@dataclass(frozen=True)
class Plan:
    """The answer, ready to be shown; bytes, seconds, images per second."""

    config: Config
    task: Task
    device: Device
    ranks: int
    counts: Counts
    states: dict[str, float]
    micro_batches: int
    """Proposed; 0 = not even one image fits."""
    images: int
    """Of one micro-batch."""
    activations: Activations
    steps: int
    rate: float
    """Images per second over all ranks."""
    origin: str
    """Of the rate: "measured ..." or "estimated ..."."""
    disk: dict[str, float]

    @property
    def memory(self) -> float:
        return sum(self.states.values()) + self.activations.at(self.images)


def make_plan(
    config: Config,
    task: Task,
    device: Device,
    ranks: int = 1,
    measure: Callable[[int], float] | None = None,
) -> Plan:
    """Plan a run.

    Args:
        config: resolved.
        ranks: processes, one device each.
        measure: images per second of one rank for a micro-batch of so many images; called only
            if a step would fit and take seconds.

    Raises:
        ConfigError: if the batch does not divide into ranks.
    """
    batch_size = config.train.batch_size
    if ranks < 1 or batch_size % ranks:
        raise ConfigError(
            f"`train.batch_size` {batch_size} does not divide into {ranks} ranks",
            "choose a multiple of the number of ranks",
        )
    counts = count(config, task)
    states = _states(counts, ranks)
    room = USABLE * device.memory - sum(states.values())
    micro_batches, kept = _cut(config, task, batch_size // ranks, room)
    keeps_fake = config.train.share_noise and micro_batches == 1
    step = counts.step if keeps_fake else counts.step + counts.generator_forward
    peak = device.bfloat16 if config.train.precision == "bfloat16" else device.float32
    rate, origin = ranks * UTILISATION * peak / step, f"estimated: {UTILISATION:.0%} of the peak"
    images = batch_size // ranks // (micro_batches or batch_size // ranks)
    if measure and micro_batches and images * ranks / rate < 20:
        rate, origin = ranks * measure(images), "measured here by a few steps"
        origin += f" of one rank, times {ranks}" if ranks > 1 else ""
    steps = count_steps(config.train.duration, "train.duration", batch_size, task.num_rows)
    disk = disk_bytes(config, task, counts, steps)
    return Plan(
        config, task, device, ranks, counts, states, micro_batches, images, kept, steps, rate,
        origin, disk,
    )  # fmt: skip


def _states(counts: Counts, ranks: int) -> dict[str, float]:
    """What is there whatever the batch, in bytes; all of it is float32."""
    both, larger = counts.generator + counts.discriminator, max(counts[:2])
    return {
        "weights": 4.0 * both,
        # One network's at a time; over ranks they are averaged in one joined copy.
        "gradients": 4.0 * larger * (2 if ranks > 1 else 1),
        "optimizer": 8.0 * both,
        "average": 4.0 * counts.generator,
        "teacher": 4.0 * counts.teacher,
    }


def _cut(config: Config, task: Task, images: int, room: float) -> tuple[int, Activations]:
    """The fewest micro-batches whose activations fit; 0 if one image is too many."""
    kept = activations(config, task, config.train.share_noise)
    if kept.at(images) <= room:
        return 1, kept
    kept = activations(config, task, keeps_fake=False)
    for parts in range(2, images + 1):
        if images % parts == 0 and kept.at(images // parts) <= room:
            return parts, kept
    return 0, kept


def disk_bytes(config: Config, task: Task, counts: Counts, steps: int) -> dict[str, float]:
    """Bytes a run leaves behind, and those of its latents."""
    generator, discriminator = counts[:2]
    every = count_steps(
        config.every.checkpoint, "every.checkpoint", config.train.batch_size, task.num_rows
    )
    found: dict[str, float] = {
        # Both networks, the average, two running values of Adam's for both.
        "checkpoints": CHECKPOINTS * 4 * (4 * generator + 3 * discriminator),
        "snapshots": (1 + (steps - 1) // every) * 4 * (generator + discriminator),
    }
    if config.autoencoder.kind != "identity":
        channels, height, width = task.shape  # mean and deviation, float16
        found["latents"] = task.num_rows * 2 * 2 * channels * height * width
    return found


def this_machine(name: str, precision: str) -> Device:
    """The device at hand, its peak measured by one large product.

    Args:
        name: cpu, cuda or cuda:1.
        precision: "float32" or "bfloat16".
    """
    device = torch.device(name)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        label, side = torch.cuda.get_device_name(device), 8192
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        label, side = "this machine's CPU", 1024
    matrix = torch.randn(side, side, device=device, dtype=getattr(torch, precision))
    seconds = min(_timed(lambda: matrix @ matrix, device) for _ in range(5))
    peak = 2 * side**3 / seconds
    return Device(label, memory, peak, peak)


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def describe(plan: Plan) -> list[str]:
    """The plan in lines."""
    counts, config, kept = plan.counts, plan.config, plan.activations
    channels, side, _ = plan.task.shape
    teacher = f", teacher {counts.teacher / 1e6:.1f} M (frozen)" if counts.teacher else ""
    states = ", ".join(f"{name} {_gb(n)}" for name, n in plan.states.items() if n)
    disk = ", ".join(f"{name} {_gb(number)}" for name, number in plan.disk.items())
    tokens = isqrt((side // config.model.patch_size) ** 2) ** 2
    lines = [
        f"{config.name} on {plan.ranks} x {plan.device.label} ({_gb(plan.device.memory)} each)",
        f"  data         {plan.task.num_rows:,} rows in {plan.task.num_classes:,} classes, samples "
        f"{channels} x {side} x {side}, {tokens} tokens{plan.task.note}",
        f"  parameters   generator {counts.generator / 1e6:.2f} M, discriminator "
        f"{counts.discriminator / 1e6:.2f} M{teacher}",
        f"  operations   {counts.step / 1e9:.1f} GFLOP per image and step; forward: generator "
        f"{counts.generator_forward / 1e9:.3f}, discriminator "
        f"{counts.discriminator_forward / 1e9:.3f}",
        f"  states       {_gb(sum(plan.states.values()))} per rank: {states}",
        f"  activations  {kept.per_image / 1e6:,.0f} MB per image in {config.train.precision} and "
        f"{kept.fixed / 1e6:,.0f} MB whatever the batch; "
        f"{kept.per_image_recomputed / 1e6:,.0f} MB if blocks were recomputed",
    ]
    if not plan.micro_batches:
        more = "choose a smaller model.size or a device with more memory"
        return [*lines, f"  batch        not even one image fits; {more}"]
    per_rank = f"{plan.ranks} ranks x " if plan.ranks > 1 else ""
    hint = ""
    if plan.micro_batches != config.train.micro_batches:
        hint = f"; set train.micro_batches = {plan.micro_batches}"
    return [
        *lines,
        f"  batch        {config.train.batch_size} = {per_rank}{plan.micro_batches} micro-batches x "
        f"{plan.images} images, {_gb(plan.memory)} of {_gb(plan.device.memory)} per rank{hint}",
        f"  speed        {_round(plan.rate)} images/s, {plan.origin}",
        f"  time         {_duration(plan.steps * config.train.batch_size / plan.rate)} for "
        f"{plan.steps:,} steps ({config.train.duration})",
        f"  disk         {_gb(sum(plan.disk.values()))}: {disk}",
    ]


def _gb(number: float) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"


def _round(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{max(1, minutes)} min"
