"""How fast a run will be, by a few steps on made-up data."""

import time
from dataclasses import replace

import torch

from scalegan.autoencoders.pixels import Identity
from scalegan.config.schema import Config
from scalegan.data.memory import Rows
from scalegan.planning.cost import Task, untrained_teacher
from scalegan.runtime.world import World
from scalegan.train.build import build_state
from scalegan.train.step import train_step


def images_per_second(
    config: Config, task: Task, device: torch.device, images: int, seconds: float = 10.0
) -> float:
    """Throughput of one rank on noise of the right shapes, without loading and saving.

    Images of one turn count: a step with several turns of the discriminator has one batch.

    Args:
        images: of one micro-batch.
        seconds: about how long to measure, after one step that warms up; at least two steps.
    """
    train = replace(config.train, batch_size=images, micro_batches=1)
    config = replace(config, train=train)
    teacher = untrained_teacher(config, device)
    autoencoder = Identity(*task.shape[:2])
    state = build_state(config, World(0, 1, device), autoencoder, task.num_classes, teacher)
    side = task.image_side
    teacher_images = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8)
    stored = torch.randint(0, 256, (images, *task.shape), dtype=torch.uint8)
    rows = Rows(
        stored, torch.arange(images) % max(1, task.num_classes), teacher_images if teacher else None
    )
    shares = [[rows.to(device).read(torch.arange(images))]] * train.discriminator_turns
    train_step(state, shares)
    start, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - start < seconds:
        train_step(state, shares)  # waits for the device by itself
        steps += 1
    return steps * images / (time.perf_counter() - start)
