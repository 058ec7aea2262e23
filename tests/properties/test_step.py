"""What holds for every training step: gradients everywhere, and one result however it is cut."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scalegan.config.objective import AlignmentConfig, AugmentConfig, ObjectiveConfig
from scalegan.config.schema import Config, TrainConfig
from scalegan.interfaces import Batch, Levels
from scalegan.losses import objective
from scalegan.losses.augment import Draws
from scalegan.losses.view import View, draw_view, view_of
from scalegan.runtime.world import World
from scalegan.train.checkpoint import state_tensors
from scalegan.train.state import TrainState, Turn
from scalegan.train.step import train_step
from tests.support import tiny

ALIGNED = ObjectiveConfig(alignment=AlignmentConfig(weight=0.5, features=5, side=8))
PLAIN = ObjectiveConfig()
COUNT = 12  # divides into 1, 2, 3 and 4 parts


def config(objective: ObjectiveConfig = PLAIN, **train: Any) -> Config:
    return tiny.config(batch_size=COUNT, objective=objective, train=TrainConfig(**train))


def new_state(of: Config, world: World | None = None) -> TrainState:
    teacher = tiny.teacher if of.objective.alignment.weight > 0 else None
    return tiny.state(of, world, teacher=teacher)


def assert_same(a: TrainState, b: TrainState) -> None:
    """To the bit."""
    first, second = state_tensors(a), state_tensors(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


Gradients = dict[str, Tensor]


def gradients_of(state: TrainState) -> Gradients:
    """Gradients that reach the optimizers during the next step, by name."""
    found: Gradients = {}
    for network_name, network in state.networks.items():

        def note(*_: Any, name: str = network_name, network: torch.nn.Module = network) -> None:
            for key, parameter in network.named_parameters():
                if parameter.grad is not None:
                    found[f"{name}.{key}"] = parameter.grad.clone()

        state.optimizers[network_name].register_step_pre_hook(note)
    return found


@pytest.mark.parametrize("of", [PLAIN, ALIGNED])
@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (4, 16)])
def test_every_parameter_gets_a_gradient(of: ObjectiveConfig, shape: tuple[int, int]) -> None:
    teacher = tiny.teacher if of is ALIGNED else None
    state = tiny.state(config(of), shape=shape, teacher=teacher)
    gradients = gradients_of(state)
    channels, side = shape
    batch = tiny.batch(COUNT, channels=channels, side=side)
    batch = replace(batch, images=tiny.batch(COUNT, channels=3, side=side).stored)
    train_step(state, [[batch]])
    for name, network in state.networks.items():
        for key, _ in network.named_parameters():
            # The head's bias adds the same to both logits of a pair: its gradient is but rounding.
            has_one = key == "head.bias" or gradients[f"{name}.{key}"].any()
            assert f"{name}.{key}" in gradients and has_one, f"{name}.{key}"


@pytest.mark.parametrize("of", [PLAIN, ALIGNED])
def test_the_kept_generator_forward_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, of: ObjectiveConfig
) -> None:
    kept, twice = new_state(config(of)), new_state(config(of))
    begin = TrainState.begin

    def begin_without(state: TrainState, *arguments: Any) -> Turn:
        turn = begin(state, *arguments)
        turn.reuses_fakes &= state is not twice
        return turn

    monkeypatch.setattr(TrainState, "begin", begin_without)
    forwards = {id(state.generator): 0 for state in (kept, twice)}
    synthesize = type(kept.generator).synthesize

    def counted(network: torch.nn.Module, w: Tensor) -> Levels:
        forwards[id(network)] += 1
        return synthesize(network, w)

    monkeypatch.setattr(type(kept.generator), "synthesize", counted)
    batch = tiny.batch(COUNT, with_images=True)
    for state in (kept, twice):
        for _ in range(3):
            train_step(state, [[batch]])
    assert list(forwards.values()) == [3, 6]
    assert_same(kept, twice)


class Replay:
    """Draws for a whole batch; parts of it are shown their own rows of these.

    Where a part begins, and how many draws it has had, is kept by thread: a thread is a rank.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(0)
        whole = torch.zeros(COUNT, 4, 1, 8, 8)
        self.views = [  # of fake and real, in both turns
            (draw_view(whole, torch.zeros(4), PLAIN.augment).draws, torch.randn_like(whole))
            for _ in range(4)
        ]
        self.moves = [torch.randn(COUNT, num_levels, 1, 8, 8) for num_levels in (1, 4)]
        self.noise = torch.randn(COUNT, 8)
        self.rank = threading.local()
        monkeypatch.setattr(objective, "draw_view", self.view)
        monkeypatch.setattr(objective, "draw_moves", self.draw_moves)
        monkeypatch.setattr(
            TrainState, "draw_noise", lambda _, turn, labels: self.part(self.noise, labels)
        )

    def begin(self, first: int, turn: int) -> None:
        self.rank.first = first
        self.rank.views, self.rank.moves = iter(self.views[2 * turn :]), iter(self.moves)

    def part(self, whole: Tensor, of: Tensor) -> Tensor:
        return whole[self.rank.first :][: len(of)]

    def view(
        self,
        samples: Tensor,
        noise_levels: Tensor,
        augment: AugmentConfig,
        draws_of_partner: Draws | None = None,
    ) -> View:
        assert draws_of_partner is None
        augmentation, draws = next(self.rank.views)
        rows = {
            name: self.part(u, samples) for name, u in vars(augmentation).items() if name != "side"
        }
        return view_of(samples, Draws(8, **rows), self.part(draws, samples), noise_levels, augment)

    def draw_moves(self, samples: Tensor) -> Tensor:
        return self.part(next(self.rank.moves), samples)


class Part(Sequence[Batch]):
    """One rank's micro-batches, which tell a replay where they begin; gone through once a turn."""

    def __init__(self, replay: Replay, rank: int, num_ranks: int, num_micro: int) -> None:
        self.replay, self.turn = replay, 0
        rows = tiny.rows(COUNT, with_images=True)
        self.indices = torch.arange(COUNT).chunk(num_ranks)[rank].chunk(num_micro)
        self.batches = [rows.read(indices) for indices in self.indices]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> Batch:
        return self.batches[i]

    def __iter__(self) -> Iterator[Batch]:
        for indices, batch in zip(self.indices, self.batches, strict=True):
            self.replay.begin(int(indices[0]), self.turn)
            yield batch
        self.turn += 1


@dataclass(frozen=True, kw_only=True)
class Threads(World):
    """A world whose ranks are threads."""

    barrier: threading.Barrier
    posts: dict[int, list[Tensor]]

    def exchange(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        """What every rank posted, in rank order."""
        self.posts[self.rank] = [tensor.clone() for tensor in tensors]
        self.barrier.wait()
        posts = [self.posts[rank] for rank in range(self.size)]
        self.barrier.wait()
        return posts

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        tensors = list(tensors)
        for tensor, *parts in zip(tensors, *self.exchange(tensors), strict=True):
            tensor.copy_(torch.stack(parts).mean(dim=0))

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([post[0] for post in self.exchange([tensor])])


def run(replay: Replay, num_ranks: int, num_micro: int) -> list[tuple[TrainState, Gradients]]:
    """One step by every rank: its state afterwards and its gradients."""
    barrier, posts = threading.Barrier(num_ranks, timeout=60), {}
    of = config(ALIGNED, share_noise=False, micro_batches=num_micro)

    # Built one after another: start values come from the one generator of the process.
    worlds = [
        Threads(rank, num_ranks, tiny.CPU, barrier=barrier, posts=posts)
        for rank in range(num_ranks)
    ]
    states = [new_state(of, world) for world in worlds]
    gradients = [gradients_of(state) for state in states]

    def step(rank: int) -> None:
        train_step(states[rank], [Part(replay, rank, num_ranks, num_micro)])

    with ThreadPoolExecutor(num_ranks) as pool:
        list(pool.map(step, range(num_ranks)))
    return list(zip(states, gradients, strict=True))


@pytest.mark.parametrize(("num_ranks", "num_micro"), [(1, 2), (1, 3), (2, 1), (2, 2), (3, 1)])
def test_a_batch_cut_into_parts_has_the_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, num_ranks: int, num_micro: int
) -> None:
    replay = Replay(monkeypatch)
    ((whole, expected),) = run(replay, 1, 1)
    for state, gradients in run(replay, num_ranks, num_micro):
        assert gradients.keys() == expected.keys() and len(gradients) > 100
        for name, value in expected.items():
            if name != "discriminator.head.bias":  # zero but for rounding where pairs share a label
                error = (gradients[name] - value).norm() / value.norm()
                # Rounding is divided by sigma = 0.01 and squared.
                assert error < 1e-3, f"{name}: {error}"
        assert torch.equal(state.generator.style_updates, whole.generator.style_updates)
        torch.testing.assert_close(state.generator.style_mean, whole.generator.style_mean)
