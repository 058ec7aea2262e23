"""What each of two processes does in tests/unit/runtime/test_sharding.py."""

import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scalegan.config.objective import AlignmentConfig, ObjectiveConfig
from scalegan.config.schema import TrainConfig
from scalegan.interfaces import Batch
from scalegan.runtime.sharding import full
from scalegan.runtime.world import World, join, leave
from scalegan.train import checkpoint
from scalegan.train.state import TrainState
from scalegan.train.step import train_step
from tests.support import tiny

NAMES = ["a", "b", "c"]
OBJECTIVE = ObjectiveConfig(alignment=AlignmentConfig(weight=0.5, features=5, side=8))


def new_state(world: World, parallel: str, recompute: str = "none") -> TrainState:
    train = TrainConfig(parallel=parallel, recompute=recompute)  # type: ignore[arg-type]
    of = tiny.config(batch_size=4, objective=OBJECTIVE, train=train)
    return tiny.state(of, world, teacher=tiny.teacher)


def whole_tensors(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: full(value) for name, value in checkpoint.state_tensors(state).items()}


def assert_close(a: TrainState, b: TrainState, atol: float) -> None:
    first, second = whole_tensors(a), whole_tensors(b)
    assert first.keys() == second.keys()
    for name in first:
        if "head.bias" not in name:  # its gradient is but rounding, of which Adam makes a step
            torch.testing.assert_close(first[name], second[name], atol=atol, rtol=1e-4, msg=name)


class Messages(TorchDispatchMode):
    """Counts the bytes that are gathered and reduced, whole, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operator.name() == "c10d::_allgather_base_":
            self.found["gathered"] += args[0].nbytes
        elif operator.name() == "c10d::_reduce_scatter_base_":
            self.found["reduced"] += args[1].nbytes
        return operator(*args, **(kwargs or {}))


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0])
    torch.set_num_threads(1)
    world = join("cpu")
    everything = tiny.batch(4, with_images=True)
    mine = slice(2 * world.rank, 2 * world.rank + 2)
    batch = Batch(everything.stored[mine], everything.labels[mine], everything.images[mine])

    replicated, sharded = new_state(world, "replicate"), new_state(world, "shard", "full")
    parameter = next(sharded.generator.blocks[0].parameters())
    assert sharded.is_sharded and parameter.to_local().numel() < parameter.numel()
    for _ in range(2):
        for state in (replicated, sharded):
            report = train_step(state, [[batch]])
            assert state.is_finite
        assert_close(replicated, sharded, atol=1e-5)
    average = sharded.whole_average()
    plain = replicated.average.state_dict()
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, plain[name], atol=1e-5, rtol=1e-4, msg=name)
    torch.testing.assert_close(average.rotary, replicated.average.rotary)

    # Written by two, read by two; and what one wrote whole, read by two.
    path = checkpoint.save_checkpoint(folder / "parts", sharded, NAMES)
    again = new_state(world, "shard")
    checkpoint.restore_checkpoint(path, again, NAMES)
    assert_close(sharded, again, atol=0)
    if world.is_first:
        checkpoint.save_checkpoint(folder / "whole", replicated, NAMES)
    world.wait()
    checkpoint.restore_checkpoint(folder / "whole" / path.name, again, NAMES)
    assert_close(replicated, again, atol=0)

    # A value that is not finite on one rank moves nothing on any.
    before = {name: value.clone() for name, value in whole_tensors(again).items()}
    bad = Batch(batch.stored, batch.labels, batch.images)
    again.autoencoder.sample = lambda stored: (
        stored.float()
        * (  # type: ignore[method-assign]
            float("nan") if world.rank == 1 else 1.0
        )
    )
    train_step(again, [[bad]])
    assert not again.is_finite
    for name, value in whole_tensors(again).items():
        assert torch.equal(value, before[name]), name

    with Messages() as messages:
        train_step(sharded, [[batch]])
    if world.is_first:
        sizes = {
            name: 4 * sum(parameter.numel() for parameter in network.parameters())
            for name, network in sharded.networks.items()
        }
        (folder / "messages.json").write_text(json.dumps({**messages.found, **sizes}))
    del replicated, sharded, again, average, plain, state, parameter, report
    gc.collect()
    world.wait()
    leave()
