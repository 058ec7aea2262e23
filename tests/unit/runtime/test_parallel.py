"""Blocks that are recomputed give the same gradients and keep what `plan` says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scalegan.config.schema import TrainConfig
from scalegan.planning.cost import Task, activations
from scalegan.train.step import discriminator_terms, train_step
from tests.properties.test_step import ALIGNED, gradients_of
from tests.support import tiny

MODES = ["none", "selective", "full"]


def one_step(mode: str = "none", precision: str = "float32", compile: bool = False) -> Any:
    """Gradients, report and state of one aligned step."""
    train = TrainConfig(recompute=mode, precision=precision, compile=compile)  # type: ignore[arg-type]
    state = tiny.state(tiny.config(objective=ALIGNED, train=train), teacher=tiny.teacher)
    gradients = gradients_of(state)
    report = train_step(state, [[tiny.batch(with_images=True)]])
    return gradients, report, state


@pytest.mark.parametrize(
    ("mode", "precision", "tolerance"),
    [
        ("selective", "float32", 0.0),
        ("full", "float32", 0.0),
        ("full", "bfloat16", 0.0),
        # Two passes share no 16-bit copy of a weight, so their gradients are added in 32 bits.
        ("selective", "bfloat16", 0.02),
    ],
)
def test_recomputing_changes_nothing(mode: str, precision: str, tolerance: float) -> None:
    """To the bit: the same operators run on the same numbers."""
    gradients, report, state = one_step(mode, precision=precision)
    expected, expected_report, plain = one_step("none", precision=precision)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        if name != "discriminator.head.bias":  # but rounding
            atol = tolerance * expected[name].abs().max().item()
            torch.testing.assert_close(gradient, expected[name], atol=atol, rtol=0, msg=name)
    if not tolerance:
        assert report == expected_report
    assert state.generator.state_dict().keys() == plain.generator.state_dict().keys()


@pytest.mark.parametrize("mode", MODES[1:])
def test_the_average_keeps_its_forward(mode: str) -> None:
    _, _, state = one_step(mode)
    assert "forward" in vars(state.generator.blocks[0])
    assert "forward" not in vars(state.average.blocks[0])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", MODES)
def test_blocks_keep_as_much_as_was_planned(mode: str, precision: str) -> None:
    """Bytes that the allocator gave and did not get back, within 2% of what `plan` foresaw."""
    train = TrainConfig(recompute=mode, precision=precision)  # type: ignore[arg-type]
    config = tiny.config(train=train)
    state, batch = tiny.state(config), tiny.batch(12)

    def turn() -> object:
        begun = state.begin("discriminator", [batch], 0)
        with state.autocast():
            return begun, discriminator_terms(state, begun, batch, 0)

    turn()  # whatever is made once
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        kept = turn()
    measured = sum(event.self_cpu_memory_usage for event in profile.key_averages())
    task = Task((1, 8, 8), tiny.NUM_CLASSES, 24, 8)
    planned = activations(config, task, keeps_fake=True).at(12)
    assert kept
    if mode == "none":
        assert measured == pytest.approx(planned, rel=0.02)
    else:  # planned for the backward pass, where one block at a time is there as a whole
        everything = activations(config, task, keeps_fake=True, mode="none").at(12)
        assert measured < planned < everything
        blocks = 4 + 4  # of both networks; the discriminator's saw four passes at once
        assert planned - measured <= everything / (blocks / 2)


COMPILED = """
import warnings
import torch
warnings.filterwarnings("error", "Torchinductor does not support")  # complex numbers
torch.set_num_threads(1)
from tests.unit.runtime.test_parallel import one_step
more = MORE
expected, _, _ = one_step(**more)
gradients, _, _ = one_step(compile=True, **more)
tolerance = 0.05 if "precision" in more else 1e-3
assert gradients.keys() == expected.keys()
for name, gradient in gradients.items():
    if name != "discriminator.head.bias":
        most = expected[name].abs().max().item()
        off = (gradient - expected[name]).abs().max().item()
        assert off <= tolerance * most, (name, off, most)
from torch._dynamo.utils import counters
assert not counters["graph_break"], counters["graph_break"]
print("blocks compiled:", counters["stats"]["unique_graphs"])
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("more", ["{}", '{"mode": "full"}', '{"precision": "bfloat16"}'])
def test_compiled_blocks_equal_eager_ones(more: str) -> None:
    # In a process of its own, whose functions are not wrapped in checks of shapes.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED.replace("MORE", more)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split(":")[1]) <= 24
