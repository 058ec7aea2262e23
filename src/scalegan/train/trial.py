"""A few steps on made-up data, to learn how fast a run will be."""

import time
from dataclasses import replace

import torch

from scalegan.autoencoders.base import Identity
from scalegan.data.rows import Rows
from scalegan.features import dinov2
from scalegan.interfaces import Teacher
from scalegan.plan import Task
from scalegan.runtime.world import World
from scalegan.settings import Config
from scalegan.train.build import build_state, to_device
from scalegan.train.step import train_step


def images_per_second(
    config: Config, task: Task, device: torch.device, images: int, seconds: float = 10.0
) -> float:
    """Throughput of one rank on noise of the right shapes, without loading and saving.

    Args:
        images: of one micro-batch.
        seconds: about how long to measure, after one step that warms up; at least two steps.
    """
    train = replace(config.train, batch_size=images, micro_batches=1)
    config = replace(config, train=train)
    alignment = config.objective.alignment
    teacher: Teacher | None = None
    if alignment.weight > 0 and alignment.teacher:
        # Its weights do not change what it costs.
        args = (alignment.teacher, alignment.teacher_path, device, alignment.side)
        teacher = dinov2.untrained(*args)
    elif alignment.weight > 0:
        teacher = _features(alignment.features)
    autoencoder = Identity(*task.shape[:2])
    state = build_state(config, World(0, 1, device), autoencoder, task.num_classes, teacher)
    side = task.picture_side
    pictures = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8)
    stored = torch.randint(0, 256, (images, *task.shape), dtype=torch.uint8)
    rows = Rows(stored, torch.arange(images) % task.num_classes, pictures if teacher else None)
    share = [to_device(rows, device).read(torch.arange(images))]
    train_step(state, [share])
    start, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - start < seconds:
        train_step(state, [share])  # waits for the device by itself
        steps += 1
    return steps * images / (time.perf_counter() - start)


def _features(width: int) -> Teacher:
    """In place of a function that will be handed in."""
    return lambda pictures: torch.ones(len(pictures), 2, width, device=pictures.device)
