"""What a run will need, before it is started: parameters, operations, memory, time and disk."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from scalegan.autoencoders.tables import AUTOENCODERS, make_autoencoder
from scalegan.config.durations import count_seconds, count_steps
from scalegan.config.reading import choose
from scalegan.config.schema import AutoencoderConfig, Config, DataConfig
from scalegan.data.memory import read_into_memory
from scalegan.data.shards import read_manifest
from scalegan.data.sources import open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import ConfigError, DataError
from scalegan.planning.cost import Activations, Counts, Task, activations, count
from scalegan.runtime.text import rough_duration
from scalegan.runtime.world import choose_device

UTILISATION = 0.3
"""Share of the peak that an estimate assumes; a guess until it is measured, and so marked."""
USABLE = 0.9
"""Share of the memory that is planned with; the rest is for temporaries and fragments."""
MODES = ("none", "selective", "full")  # of recomputation, by what they save
CHECKPOINTS = 3  # on the disk at a time: two are kept, and a new one is verified before one goes
PNG_BYTES = 1.75
"""Per pixel of a kept image: the mean of 200 photographs cropped to 256 pixels."""


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

IMAGENET = (1_281_167, 1000, 256)
"""Rows, classes (ILSVRC 2012, training) and side that are assumed where the data is not here."""


def read_task(config: Config, rows: int = 0, classes: int = 0, side: int = 0) -> Task:
    """Sizes of the data that a config trains on; ImageNet's where the data is not on this machine.

    Args:
        rows, classes, side: of the images, to be taken instead; the data is not read if all
            three are given.
    """
    given, channels, note, data_bytes = (rows, classes, side), 3, "", 0
    if not all(given):
        try:
            *known, channels, data_bytes = _read_sizes(config.data)
        except DataError:
            known = list(IMAGENET)
            note = " (assumed: the data is not here; --rows, --classes and --side say otherwise)"
        rows, classes, side = (mine or found for mine, found in zip(given, known, strict=True))
    shape = sample_shape(config.autoencoder, channels, side)
    num_classes = classes if config.data.conditional else 0
    return Task(shape, num_classes, rows, side, note, data_bytes)


def _read_sizes(data: DataConfig) -> tuple[int, int, int, int, int]:
    """Rows, classes, side and channels of the images, and the bytes of prepared shards."""
    if not data.shards:
        images = read_into_memory(open_source(data.source, SOURCES), data.size)
        channels, side = 1 if images.is_gray else 3, images.images.shape[-1]
        return len(images.labels), len(images.class_names), side, channels, 0
    about = read_manifest(Path(data.shards))
    if not about["complete"]:
        raise DataError(f"`{data.shards}` is not complete")
    size = sum(file.stat().st_size for file in Path(data.shards).glob("*/*"))
    return about["rows"], len(about["class_names"]), about["side"], about["channels"], size


def sample_shape(config: AutoencoderConfig, channels: int, side: int) -> tuple[int, int, int]:
    """(C, H, W) of a sample of such images.

    Raises:
        ConfigError: if the images do not fit the autoencoder.
    """
    kind = choose(AUTOENCODERS, config.kind, "autoencoder.kind")
    if config.path or not kind.channels:
        return make_autoencoder(config, channels, side).shape
    if side % kind.factor:  # its shape is known without its files
        raise ConfigError(f"images of side {side} do not fit `{config.kind}`, factor {kind.factor}")
    return kind.channels, side // kind.factor, side // kind.factor


@dataclass(frozen=True)
class RunPlan:
    """What a run needs: bytes, seconds, images per second."""

    config: Config
    task: Task
    device: Device
    ranks: int
    counts: Counts
    states: dict[str, int]
    micro_batches: int
    """Proposed; 0 = not even one image fits."""
    activations: Activations
    rate: float
    """Images per second over all ranks."""
    origin: str
    """Of the rate: "measured ..." or "estimated ..."."""

    @property
    def images(self) -> int:
        """Of one micro-batch; 1 where not even one fits."""
        per_rank = self.config.train.batch_size // self.ranks
        return per_rank // (self.micro_batches or per_rank)

    @property
    def steps(self) -> int:
        train, batch_size = self.config.train, self.config.train.batch_size
        if seconds := count_seconds(train.duration):
            return max(1, round(seconds * self.rate / batch_size))
        images, rows = self.config.images_per_step, self.task.num_rows
        return count_steps(train.duration, "train.duration", images, rows)

    @property
    def disk(self) -> dict[str, int]:
        return disk_bytes(self.config, self.task, self.counts, self.steps)

    @property
    def memory(self) -> int:
        return sum(self.states.values()) + self.activations.at(self.images)


def make_plan(
    config: Config,
    task: Task,
    device: Device,
    ranks: int = 1,
    measure: Callable[[int], float] | None = None,
) -> RunPlan:
    """Plan a run.

    Args:
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
    # What follows for one rank is the same however many there are, and is remembered.
    alone = replace(config, train=replace(config.train, parallel="replicate"))
    counts = count(alone, task)
    states = _states(counts, ranks, config.train.parallel == "shard")
    room = USABLE * device.memory - sum(states.values())
    micro_batches, kept = _cut(alone, task, batch_size // ranks, room)
    peak = device.bfloat16 if config.train.precision == "bfloat16" else device.float32
    rate = ranks * UTILISATION * peak / counts.of_run(config, micro_batches)
    origin = f"estimated: {UTILISATION:.0%} of the peak"
    plan = RunPlan(config, task, device, ranks, counts, states, micro_batches, kept, rate, origin)
    if measure and micro_batches and plan.images * ranks / rate < 20:
        origin = "measured here by a few steps" + (f" of one rank, times {ranks}" * (ranks > 1))
        plan = replace(plan, rate=ranks * measure(plan.images), origin=origin)
    return plan


Measure = Callable[[Config, Task, torch.device, int], float]
"""Images per second of one rank, measured by steps on micro-batches of so many images."""


def plan_lines(
    config: Config, task: Task, device: str, ranks: int, measure: Measure | None = None
) -> list[str]:
    """What a run will need, in lines.

    Args:
        device: one of `DEVICES`; or auto, cpu, cuda: this machine.
        measure: called where the device is here and a step fits; None where nothing may run.

    Raises:
        ConfigError: if the device is unknown or not here, or the batch does not fit the ranks.
    """
    has_gpu = torch.cuda.is_available()
    if device in DEVICES:
        kind, here = DEVICES[device], torch.device("cuda")
        is_here = has_gpu and kind.label in torch.cuda.get_device_name()
    elif device in ("auto", "cpu") or (device.split(":")[0] == "cuda" and has_gpu):
        is_here, here = True, choose_device(device)
        kind = this_machine(str(here), config.train.precision)
    else:
        raise ConfigError(
            f"`--device` is `{device}`, which is neither here nor known",
            f"auto, cpu, or one of: {', '.join(DEVICES)}",
        )
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    trial = partial(measure, config, task, here) if measure and is_here else None
    return describe_plan(make_plan(config, task, kind, ranks, trial))


def _states(counts: Counts, ranks: int, is_sharded: bool) -> dict[str, int]:
    """What is there whatever the batch, in bytes; all of it is float32."""
    both, larger = counts.generator + counts.discriminator, max(counts[:2])
    parts, gathered = (ranks, 4 * counts.gathered) if is_sharded and ranks > 1 else (1, 0)
    copies = 2 if ranks > parts else 1
    return {
        "weights": 4 * both // parts,
        "gathered": gathered,
        # One network's at a time. Replicated ones are averaged in one joined copy; sharded ones
        # are whole for the blocks at work, before they are shared out.
        "gradients": 4 * (larger // parts) * copies + gathered,
        "optimizer": 8 * both // parts,
        "average": 4 * counts.generator // parts,
        "teacher": 4 * counts.teacher,
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


def disk_bytes(config: Config, task: Task, counts: Counts, steps: int) -> dict[str, int]:
    """Bytes on disk of a run's checkpoints and snapshots, and of its data where it is prepared."""
    every = config.every_steps(task.num_rows)
    found = run_bytes(counts.generator, counts.discriminator, steps, every)
    if task.data_bytes:
        return found | {"shards (there)": task.data_bytes}
    if config.autoencoder.kind != "identity":
        channels, height, width = task.shape  # mean and deviation, float16
        found["latents"] = task.num_rows * 2 * 2 * channels * height * width
    if config.objective.alignment.is_used:
        found["images"] = round(task.num_rows * PNG_BYTES * task.image_side**2)
    return found


def run_bytes(
    generator: int, discriminator: int, steps: int, every: Mapping[str, int]
) -> dict[str, int]:
    """Bytes on disk of a run's checkpoints and snapshots.

    Args:
        generator, discriminator: numbers saved with each.
        every: steps between checkpoints and between evaluations, which each leave a snapshot; 0 =
            never.
    """
    snapshots = 1 + (steps - 1) // every["checkpoint"]
    snapshots += (steps - 1) // every["evaluate"] if every["evaluate"] else 0
    return {
        # Both networks, the average, two running values of Adam's for both.
        "checkpoints": CHECKPOINTS * 4 * (4 * generator + 3 * discriminator),
        "snapshots": snapshots * 4 * (generator + discriminator),
    }


def this_machine(name: str, precision: str) -> Device:
    """Memory and speed of this machine's device, the speed measured by one large product.

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
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    peak = 2 * side**3 / min(seconds)
    return Device(label, memory, peak, peak)


def describe_plan(plan: RunPlan) -> list[str]:
    """Format a plan as lines."""
    counts, config, kept = plan.counts, plan.config, plan.activations
    channels, side, _ = plan.task.shape
    teacher = f", teacher {counts.teacher / 1e6:.1f} M (frozen)" if counts.teacher else ""
    states = ", ".join(f"{name} {_gb(n)}" for name, n in plan.states.items() if n)
    disk = ", ".join(f"{name} {_gb(number)}" for name, number in plan.disk.items())
    others = ""
    if plan.micro_batches != 1:
        for mode in MODES[MODES.index(config.train.recompute) + 1 :]:
            more = activations(config, plan.task, False, mode)
            others += f"; {mode}: {more.per_image / 1e6:,.0f} and {more.fixed / 1e6:,.0f} MB"
    lines = [
        f"{config.name} on {plan.ranks} x {plan.device.label} ({_gb(plan.device.memory)} each)",
        f"  data         {plan.task.num_rows:,} rows in {plan.task.num_classes:,} classes, samples "
        f"{channels} x {side} x {side}{plan.task.note}",
        f"  parameters   generator {counts.generator / 1e6:.2f} M, discriminator "
        f"{counts.discriminator / 1e6:.2f} M, buffers included{teacher}",
        f"  operations   {counts.step / 1e9:.1f} GFLOP per image and step; forward: generator "
        f"{counts.generator_forward / 1e9:.3f}, discriminator "
        f"{counts.discriminator_forward / 1e9:.3f}",
        f"  states       {_gb(sum(plan.states.values()))} per rank: {states}",
        f"  activations  {kept.per_image / 1e6:,.0f} MB per image in {config.train.precision} and "
        f"{kept.fixed / 1e6:,.0f} MB whatever the batch, recompute = {config.train.recompute}"
        + others,
    ]
    if not plan.micro_batches:
        hint = "choose a smaller model.size or a device with more memory"
        return [*lines, f"  batch        not even one image fits; {hint}"]
    rate = f"{plan.rate:,.0f}" if plan.rate >= 10 else f"{plan.rate:.2g}"
    per_rank = f"{plan.ranks} ranks x " if plan.ranks > 1 else ""
    hint = ""
    if plan.micro_batches != config.train.micro_batches:
        hint = f"; set train.micro_batches = {plan.micro_batches}"
    return [
        *lines,
        f"  batch        {config.train.batch_size} = {per_rank}{plan.micro_batches} "
        f"micro-batches x {plan.images} images, {_gb(plan.memory)} of "
        f"{_gb(plan.device.memory)} per rank{hint}",
        f"  speed        {rate} images/s, {plan.origin}",
        f"  time         {rough_duration(plan.steps * config.train.batch_size / plan.rate)} for "
        f"{plan.steps:,} steps ({config.train.duration})",
        f"  disk         {_gb(sum(plan.disk.values()))}: {disk}",
    ]


def _gb(number: float | int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"
