"""Warm-up, decay, and the average that replaces the generator."""

from typing import Any

import pytest
import torch

from scalegan.config.schema import Config, OptimConfig, TrainConfig
from scalegan.errors import ConfigError
from scalegan.train.optim import stated_rate
from scalegan.train.schedule import Schedule
from scalegan.train.step import train_step
from tests.support import tiny


def schedule(last_step: int | None = 100, **optim: Any) -> Schedule:
    config = Config(optim=OptimConfig(**optim), train=TrainConfig(batch_size=10))
    return Schedule(config, 200, last_step)


def test_without_settings_the_rates_stay() -> None:
    assert {schedule().factor(step) for step in (0, 50, 99)} == {1.0}


def test_rates_rise_and_fall_on_lines() -> None:
    of = schedule(warmup="40 images", decay="1 epoch")  # 4 steps, 20 steps
    assert [of.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [of.factor(step) for step in (79, 80, 90, 99)] == [1.0, 1.0, 0.5, 0.05]


def test_a_decay_needs_an_end_in_steps() -> None:
    with pytest.raises(ConfigError, match="is a time"):
        Config(
            model=tiny.MODEL,
            optim=OptimConfig(decay="5 steps"),
            train=TrainConfig(duration="1 minute"),
        ).check()


def test_the_rates_of_a_step_are_set_before_it() -> None:
    optim = OptimConfig(warmup="2 steps", base_width=0, learning_rate=1e-3)
    state = tiny.state(tiny.config(optim=optim))
    of = Schedule(state.config, 100, 10)
    found = []
    for _ in range(3):
        of.apply(state)
        found += [group["lr"] for opt in state.optimizers.values() for group in opt.param_groups]
        train_step(state, [[tiny.batch()]])
    rate = stated_rate("generator", state.config)
    assert found == pytest.approx([rate / 2, rate / 2, rate, rate, rate, rate])


def test_the_average_replaces_the_generator_when_due() -> None:
    state = tiny.state(tiny.config(optim=OptimConfig(reload_average="2 steps")))
    of = Schedule(state.config, 100, 10)
    for step in range(3):
        of.apply(state)
        pairs = zip(state.generator.parameters(), state.average.parameters(), strict=True)
        assert all(torch.equal(mine, other) for mine, other in pairs) == (step != 1)
        train_step(state, [[tiny.batch()]])
