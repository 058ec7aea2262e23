from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scalegan.config.objective import ObjectiveConfig, PenaltyConfig
from scalegan.config.schema import OptimConfig, TrainConfig
from scalegan.interfaces import Terms
from scalegan.train.checkpoint import state_tensors
from scalegan.train.state import TrainState
from scalegan.train.step import train_step
from tests.support import tiny


def copies(state: TrainState) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state_tensors(state).items()}


def moved(state: TrainState, before: dict[str, Tensor]) -> set[str]:
    """Which parts hold a tensor that changed."""
    after = state_tensors(state)
    assert after.keys() == before.keys()
    return {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}


def trained(steps: int = 2) -> TrainState:
    state = tiny.state()
    for _ in range(steps):
        train_step(state, [[tiny.batch()]])
    return state


def poison(loss: Callable[[Tensor, Tensor], Tensor], value: float) -> Callable:
    return lambda real, fake: loss(real, fake) * value


def test_an_exact_penalty_trains_gat_too() -> None:
    exact = ObjectiveConfig(penalty=PenaltyConfig(kind="exact"))
    state = tiny.state(tiny.config(objective=exact))
    report = train_step(state, [[tiny.batch()]])  # fused attention would have no derivative
    assert state.is_finite and report["d/r1"] > 0 and report["d/grad_norm"] > 0


def test_several_turns_of_the_discriminator() -> None:
    turns = TrainConfig(discriminator_turns=3, share_noise=False)
    state = tiny.state(tiny.config(train=turns))
    train_step(state, [[tiny.batch()] for _ in range(3)])
    assert (state.step, state.images_seen) == (1, 12)
    moves = {n: next(iter(o.state.values()))["step"].item() for n, o in state.optimizers.items()}
    assert moves == {"generator": 1, "discriminator": 3}


def test_the_average_is_the_generator_itself_until_it_starts() -> None:
    state = tiny.state(tiny.config(train=TrainConfig(ema_start=3)))
    same = []
    for _ in range(3):
        train_step(state, [[tiny.batch()]])
        pairs = zip(state.average.parameters(), state.generator.parameters(), strict=True)
        same.append(all(torch.equal(mine, other) for mine, other in pairs))
    assert same == [True, True, False]


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_real_samples_are_drawn_once_per_step(
    micro_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, drawn, seen = tiny.state(), [], []
    sample = state.autoencoder.sample
    judged = state.objective.view

    def noisy(stored: Tensor) -> Tensor:  # as an autoencoder does that stores moments
        drawn.append(sample(stored) + torch.randn(stored.shape))
        return drawn[-1]

    def view(samples: Tensor, *partner: object) -> object:
        if samples.shape[1] == 1:
            seen.append(samples[:, 0])
        return judged(samples, *partner)

    monkeypatch.setattr(state.autoencoder, "sample", noisy)
    monkeypatch.setattr(state.objective, "view", view)
    train_step(state, [[tiny.batch() for _ in range(micro_batches)]])
    assert len(drawn) == micro_batches
    assert len(seen) == 2 * micro_batches  # the discriminator's turn, then the generator's
    assert all(torch.equal(a, b) for a, b in zip(seen, drawn * 2, strict=True))


ALL = {"generator", "discriminator", "average", "optimizer-generator", "optimizer-discriminator"}


def test_a_step_moves_everything_and_counts() -> None:
    state = trained()
    before = copies(state)
    report = train_step(state, [[tiny.batch()]])
    assert moved(state, before) == ALL
    assert (state.step, state.images_seen) == (3, 12)
    assert state.is_finite
    assert list(report) == [
        "d/adversarial", "d/r1_penalty", "d/r2_penalty", "d/real_logits", "d/fake_logits", "d/r1",
        "d/r2", "d/grad_norm", "g/adversarial", "g/grad_norm",
    ]  # fmt: skip
    assert all(value.shape == () and not value.requires_grad for value in report.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_discriminator_turn_moves_nothing(value: float) -> None:
    state = trained()
    before, losses = copies(state), state.objective.adversarial
    state.objective.adversarial = losses._replace(discriminator=poison(losses.discriminator, value))
    report = train_step(state, [[tiny.batch()]])
    assert moved(state, before) == set()
    assert not state.is_finite and "g/adversarial" not in report, "the rest is left out"
    assert state.step == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_generator_turn_moves_no_generator(value: float) -> None:
    state = trained()
    before, losses = copies(state), state.objective.adversarial
    state.objective.adversarial = losses._replace(generator=poison(losses.generator, value))
    train_step(state, [[tiny.batch()]])
    assert moved(state, before) == {"discriminator", "optimizer-discriminator"}
    assert not state.is_finite


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_one_bad_gradient_is_enough(value: float) -> None:
    state = trained()
    before = copies(state)
    bias = state.discriminator.blocks[0].feedforward.out.bias.requires_grad_()

    def spoil(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[3] = value
        return gradient

    hook = bias.register_hook(spoil)
    report = train_step(state, [[tiny.batch()]])
    assert moved(state, before) == set() and report["d/adversarial"].isfinite()
    hook.remove()
    train_step(state, [[tiny.batch()]])
    assert moved(state, before) == ALL and state.is_finite


def test_a_weight_that_is_not_finite_spreads_nowhere() -> None:
    state = trained()
    with torch.no_grad():
        state.generator.mapping[0].bias[0] = float("nan")
    before = copies(state)
    for _ in range(2):
        train_step(state, [[tiny.batch()]])
    for name, value in state_tensors(state).items():
        assert torch.equal(value.nan_to_num(7), before[name].nan_to_num(7)), name


def test_no_turn_leaves_gradients_behind() -> None:
    state = trained(1)
    for network in state.networks.values():
        assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_are_clipped_by_network() -> None:
    of = tiny.config(optim=OptimConfig(max_grad_norm=1e-3))
    state, norms = tiny.state(of), []
    for network, optimizer in zip(
        state.networks.values(), (state.optimizers[name] for name in state.networks), strict=True
    ):

        def record(*_: object, network: torch.nn.Module = network) -> None:
            gradients = [parameter.grad for parameter in network.parameters()]
            norms.append(torch.nn.utils.get_total_norm(gradients).item())

        optimizer.register_step_pre_hook(record)
    report = train_step(state, [[tiny.batch()]])
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-4)
    assert report["d/grad_norm"] > 1e-3, "the report is of the norm before"


def test_the_average_follows_with_its_decay() -> None:
    state = tiny.state(tiny.config(train=TrainConfig(ema_decay=0.75)))
    before = {name: value.clone() for name, value in state.average.named_parameters()}
    train_step(state, [[tiny.batch()]])
    for name, value in state.generator.named_parameters():
        expected = 0.75 * before[name] + 0.25 * value.detach()
        torch.testing.assert_close(dict(state.average.named_parameters())[name], expected)
    assert torch.equal(state.average.style_mean, state.generator.style_mean)


def test_style_means_are_fed_once_a_step() -> None:
    state = trained(3)
    assert state.generator.style_updates.tolist() == [3, 3, 3]  # labels 0, 1, 2, 0


def test_draws_depend_on_seed_attempt_rank_step_and_turn() -> None:
    def noise(step: int = 0, attempt: int = 0, seed: int = 0, turn: int = 0) -> Tensor:
        state = tiny.state(tiny.config(seed, train=TrainConfig(share_noise=False)))
        state.step, state.attempt = step, attempt
        begun = state.begin("discriminator", [tiny.batch()], turn)
        labels = torch.zeros(1, dtype=torch.int64)
        return torch.cat([state.draw_noise(begun, labels), torch.randn(1, 8)])

    changes = [noise(), noise(step=1), noise(attempt=1), noise(seed=1), noise(turn=1)]
    for i, first in enumerate(changes):
        for second in changes[:i]:
            assert (first != second).all()
    assert torch.equal(noise(), noise())


def test_shared_noise_is_the_same_in_both_turns() -> None:
    state, labels = tiny.state(), torch.zeros(2, dtype=torch.int64)
    noises = []
    for number in range(2):
        turn = state.begin("discriminator", [tiny.batch()], number)
        noises.append(state.draw_noise(turn, labels))
    assert torch.equal(*noises)


def test_only_the_network_whose_turn_it_is_is_differentiated() -> None:
    state = tiny.state()
    state.begin("generator", [tiny.batch()], 1)
    assert not any(parameter.requires_grad for parameter in state.discriminator.parameters())
    state.begin("discriminator", [tiny.batch()], 0)
    assert all(parameter.requires_grad for parameter in state.discriminator.parameters())


def test_backward_is_of_the_mean_of_the_summed_terms() -> None:
    state = tiny.state()
    weight = torch.tensor(2.0, requires_grad=True)
    losses = {"a": weight * torch.tensor([1.0, 3.0]), "b": weight**2 * torch.ones(2)}
    report = state.backward(Terms(losses, {"c": torch.tensor([4.0, 8.0])}), 0.5)
    assert weight.grad.item() == 0.5 * (2 + 2 * 2)
    assert {name: value.item() for name, value in report.items()} == {"a": 2, "b": 2, "c": 3}


def test_bfloat16_is_an_autocast_of_forwards_alone() -> None:
    of = tiny.config(train=replace(tiny.config().train, precision="bfloat16"))
    state = tiny.state(of)
    report = train_step(state, [[tiny.batch()]])
    assert state.is_finite
    assert all(value.dtype == torch.float32 for value in state_tensors(state).values())
    assert all(value.dtype == torch.float32 for value in report.values())
    exact = train_step(tiny.state(), [[tiny.batch()]])
    assert report["d/adversarial"] != exact["d/adversarial"]
    assert report["d/adversarial"].item() == pytest.approx(exact["d/adversarial"].item(), rel=0.1)
