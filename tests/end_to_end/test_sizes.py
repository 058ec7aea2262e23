"""The published size S/2 trains on a CPU, on latents of ImageNet's shape and number of classes."""

import pytest
import torch

from scalegan.autoencoders.pixels import Identity
from scalegan.config.models import GATConfig
from scalegan.config.reading import resolve
from scalegan.config.schema import Config, TrainConfig
from scalegan.interfaces import Batch
from scalegan.runtime.world import World
from scalegan.train.build import build_state
from scalegan.train.checkpoint import state_tensors
from scalegan.train.step import train_step


@pytest.mark.parametrize("steps", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_s2_trains(steps: int) -> None:
    config = resolve(
        Config(model=GATConfig(size="S", patch_size=2), train=TrainConfig(batch_size=2))
    )
    state = build_state(config, World(0, 1, torch.device("cpu")), Identity(4, 32), 1000)
    before = {name: value.clone() for name, value in state.generator.named_parameters()}
    rng = torch.Generator().manual_seed(0)
    for _ in range(steps):
        stored = torch.randint(0, 256, (2, 4, 32, 32), generator=rng, dtype=torch.uint8)
        labels = torch.randint(0, 1000, (2,), generator=rng)
        train_step(state, [[Batch(stored, labels)]])
        assert state.is_finite
    assert state.step == steps and state.images_seen == 2 * steps
    assert all(value.isfinite().all() for value in state_tensors(state).values())
    still = [n for n, p in state.generator.named_parameters() if torch.equal(p, before[n])]
    assert not still
