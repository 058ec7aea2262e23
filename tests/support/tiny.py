"""The smallest train state that has every part, made in this process, and batches for it."""

from dataclasses import replace
from typing import Any

import torch

from scalegan.autoencoders.pixels import Identity
from scalegan.config.models import GATConfig
from scalegan.config.schema import Config
from scalegan.data.memory import Rows
from scalegan.interfaces import Batch, Teacher
from scalegan.runtime.world import World
from scalegan.train.build import build_state
from scalegan.train.state import TrainState

MODEL = GATConfig(
    width=16, depth=4, num_heads=2, patch_size=4, z_width=8, label_width=12, projector_width=20
)
CPU = torch.device("cpu")
NUM_CLASSES = 3


def config(seed: int = 0, batch_size: int = 4, **parts: Any) -> Config:
    """A resolved config; `parts` replace whole sections."""
    whole = replace(Config(seed=seed, model=MODEL), **parts)
    return replace(whole, train=replace(whole.train, batch_size=batch_size))


def state(
    of: Config | None = None,
    world: World | None = None,
    shape: tuple[int, int] = (1, 8),
    teacher: Teacher | None = None,
) -> TrainState:
    """A train state before its first step; shape is (channels, side)."""
    return build_state(
        of or config(), world or World(0, 1, CPU), Identity(*shape), NUM_CLASSES, teacher
    )


def rows(count: int = 24, channels: int = 1, side: int = 8, with_images: bool = False) -> Rows:
    """Random images whose classes take turns; row i has label i modulo the classes."""
    rng = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (count, channels, side, side), generator=rng).to(torch.uint8)
    images = stored.expand(-1, 3, -1, -1) if with_images else None
    return Rows(stored, torch.arange(count) % NUM_CLASSES, images)


def batch(count: int = 4, **kinds: Any) -> Batch:
    """The first rows as one batch."""
    return rows(count, **kinds).read(torch.arange(count))


def teacher(images: torch.Tensor) -> torch.Tensor:
    """Features of width 5 on a 2x2 grid: the mean color of each quarter, and of the whole."""
    colors = torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(2).mT  # (N, 4, 3)
    tokens = torch.cat([colors.mean(dim=1, keepdim=True), colors], dim=1)
    return torch.cat([tokens, torch.ones(len(tokens), 5, 2)], dim=2)
