"""What is done for speed changes no result: each against the plain way from the formulas."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from scalegan.config.objective import AlignmentConfig, ObjectiveConfig
from scalegan.train.optim import learning_rate
from scalegan.train.state import Report
from scalegan.train.step import train_step
from tests.properties.test_step import gradients_of
from tests.support import tiny
from tests.support.plain_step import PLAIN, mean_over_classes, plainly

EVERYTHING, NOTHING = ("everything",), ("nothing",)


@dataclass
class Step:
    gradients: dict[str, Tensor]
    report: Report
    weights: dict[str, Tensor]
    rate: float


@cache
def take_step(*names: str) -> Step:
    """One step of an aligned objective with some of the package's ways taken back."""
    aligned = ObjectiveConfig(alignment=AlignmentConfig(weight=0.5, features=5, side=8))
    config = tiny.config(batch_size=6, objective=aligned)
    state = tiny.state(config, shape=(3, 8), teacher=tiny.teacher)
    given = () if names == EVERYTHING else names
    with nullcontext() if names == NOTHING else plainly(state, *given):
        gradients = gradients_of(state)
        report = train_step(state, [[tiny.batch(6, channels=3, with_images=True)]])
    networks = {**state.networks, "average": state.average}
    weights = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    return Step(gradients, report, weights, learning_rate("generator", config))


@pytest.mark.parametrize("names", [EVERYTHING, *((name,) for name in PLAIN)], ids=str)
def test_the_plain_way_has_the_same_result(names: tuple[str, ...]) -> None:
    fast, plain = take_step(*NOTHING), take_step(*names)
    assert fast.report.keys() == plain.report.keys()
    for name, value in fast.report.items():
        # The finite difference divides rounding by 0.01 and squares it.
        torch.testing.assert_close(value, plain.report[name], atol=1e-6, rtol=1e-3)
    assert fast.gradients.keys() == plain.gradients.keys() and len(fast.gradients) > 50
    for name, gradient in fast.gradients.items():
        if name == "discriminator.head.bias":
            continue  # adds the same to both logits of a pair: its gradient is but rounding
        scale = gradient.abs().max().item()
        torch.testing.assert_close(
            gradient, plain.gradients[name], atol=1e-3 * scale + 1e-9, rtol=0, msg=name
        )
    off = torch.cat([
        (fast.weights[name] - plain.weights[name]).abs().flatten()
        for name in fast.weights if name != "discriminator.head.bias"
    ])  # fmt: skip
    # Adam makes a whole step of a gradient that is but rounding.
    assert (off < 0.002 * fast.rate).float().mean() > 0.999


def test_some_of_it_is_taken_back_for_a_while() -> None:
    state = tiny.state()
    optimizers, block = state.optimizers, state.generator.blocks[0]
    with plainly(state):
        assert state.optimizers is not optimizers and "forward" in vars(block)
        assert state.optimizers["generator"].defaults["fused"] is None
    assert state.optimizers is optimizers
    assert block.forward == type(block).forward.__get__(block)


def test_the_factored_mean_over_classes() -> None:
    generator = tiny.state().generator
    z = torch.randn(4, *generator.z_shape)
    torch.testing.assert_close(
        generator.mean_over_classes(z), mean_over_classes(generator, z), atol=1e-6, rtol=1e-5
    )
