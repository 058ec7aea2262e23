"""A run that is interrupted and resumed equals one that was not, to the bit."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.config.schema import Config, TrainConfig
from scalegan.data.loader import share
from scalegan.data.memory import Rows
from scalegan.inference.sampling import stream_images
from scalegan.train import checkpoint
from scalegan.train.state import TrainState
from scalegan.train.step import train_step
from tests.support import tiny

NAMES = ["a", "b", "c"]
ROWS = tiny.rows(10)  # an epoch ends within a run


def advance(state: TrainState, rows: Rows, steps: int) -> None:
    train = state.config.train
    for _ in range(steps):
        parts = 0, 1, train.micro_batches
        first, seed = state.images_seen, state.config.seed
        train_step(state, [share(rows, seed, state.attempt, first, train.batch_size, parts)])


def assert_same(a: TrainState, b: TrainState) -> None:
    first, second = checkpoint.state_tensors(a), checkpoint.state_tensors(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    assert (a.step, a.images_seen, a.attempt) == (b.step, b.images_seen, b.attempt)


def look(state: TrainState) -> None:
    """Draw samples, and random numbers besides."""
    labels = torch.tensor([0, 1])
    list(
        stream_images(
            state.average, state.autoencoder, [0, 1], labels, truncation=0.5, guidance=2.0
        )
    )
    torch.randn(17)


@settings(max_examples=8, deadline=None)
@given(
    pieces=st.lists(st.integers(1, 2), min_size=2, max_size=3),
    seed=st.integers(0, 3),
    share_noise=st.booleans(),
    micro_batches=st.sampled_from([1, 2]),
)
def test_interrupted_and_resumed(
    pieces: list[int], seed: int, share_noise: bool, micro_batches: int
) -> None:
    train = TrainConfig(share_noise=share_noise, micro_batches=micro_batches)
    of: Config = tiny.config(seed, train=train)
    straight = tiny.state(of)
    advance(straight, ROWS, sum(pieces))
    with tempfile.TemporaryDirectory() as folder:
        for number, steps in enumerate(pieces):
            state = tiny.state(of)
            look(state)
            if number > 0:
                newest = checkpoint.find_newest(Path(folder), print)
                assert newest is not None
                assert checkpoint.restore_checkpoint(newest, state, NAMES) == {}
            advance(state, ROWS, steps)
            look(state)
            checkpoint.save_checkpoint(Path(folder), state, NAMES)
    assert_same(state, straight)


def test_looking_in_between_changes_nothing() -> None:
    straight, watched = tiny.state(), tiny.state()
    advance(straight, ROWS, 3)
    for _ in range(3):
        look(watched)
        advance(watched, ROWS, 1)
    assert_same(straight, watched)


def test_another_attempt_is_another_run() -> None:
    first, second = tiny.state(), tiny.state()
    second.attempt = 1
    advance(first, ROWS, 1)
    advance(second, ROWS, 1)
    assert not torch.equal(first.generator.labels.weight, second.generator.labels.weight)
