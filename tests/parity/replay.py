"""Objectives and training steps of a case, with every recorded draw in its place."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from scalegan.autoencoders.pixels import Identity
from scalegan.config.models import GATConfig
from scalegan.config.objective import (
    AlignmentConfig,
    AugmentConfig,
    NoiseConfig,
    ObjectiveConfig,
    PenaltyConfig,
)
from scalegan.config.schema import Config, OptimConfig, TrainConfig
from scalegan.convert import gat
from scalegan.convert.renaming import rename
from scalegan.interfaces import Batch, Terms
from scalegan.losses import alignment, augment, objective, view
from scalegan.losses.objective import Objective
from scalegan.losses.tables import ADVERSARIAL
from scalegan.runtime.world import World
from scalegan.train import step
from scalegan.train.optim import build_optimizer
from scalegan.train.state import Report, TrainState
from tests.support.reference_settings import load_reference

from .cases import Case, coarse_to_fine, draws_of, under
from .compare import Outputs

ROLES = {"disc": "discriminator", "gen": "generator"}  # turn -> the network that moves
TERMS = {"disc": step.discriminator_terms, "gen": step.generator_terms}
# What the discriminator classifiers in a turn, in the order of `Objective`.
PASSES = {"disc": ("real", "fake", "real_gp", "fake_gp"), "gen": ("fake", "real")}


def loss(case: Case) -> Outputs:
    """Both turns of a step at the recorded weights, with every gradient; no network moves."""
    state, labels = train_state(case), case.inputs["y"]
    batch = hand_in(state, case.inputs)
    ours, reals, fakes = {}, [], []
    with Replay(case.inputs) as replay:
        for number, turn in enumerate(turns_of(case.inputs)):
            role = ROLES[turn]
            network = state.networks[role]
            if turn == "gen" and not reals:
                reals = [step.real_samples(state, batch)]
            begun = state.begin(role, [batch], number, reals, fakes)
            with judged(state.discriminator) as seen:
                terms = TERMS[turn](state, begun, batch, 0)
            reals, fakes = begun.reals, begun.fakes
            state.backward(terms, 1.0)
            per_sample = torch.stack(list(terms.losses.values())).sum(dim=0).detach()
            ours |= {f"{turn}.loss_per_sample": per_sample, f"{turn}.loss": per_sample.mean()}
            parts = [torch.cat(part).split(len(labels)) for part in zip(*seen, strict=True)]
            for name, levels, logits in zip(PASSES[turn][: len(parts[0])], *parts, strict=True):
                ours[f"{turn}.d_input.{name}"] = levels.transpose(0, 1)
                ours[f"{turn}.logits.{name}"] = logits
            if turn == "disc":
                ours["disc.adv"] = terms.losses["d/adversarial"].detach()
                penalties = [name for name in ("r1", "r2") if f"d/{name}" in terms.watched]
                ours |= {f"disc.{name}": terms.watched[f"d/{name}"] for name in penalties}
            for key, theirs in under(case.outputs, f"{turn}.grad.").items():
                name = rename(gat.NAMES[role], key, "gat")
                gradient = network.get_parameter(name).grad if name else None
                if gradient is None:  # what has no effect on our network must be recorded as zero
                    gradient = torch.zeros_like(theirs)
                ours[f"{turn}.grad.{key}"] = gradient
            network.zero_grad(set_to_none=True)
    state.track_styles(begun)
    ours |= replay.outputs | {"gen.w_avg": state.generator.style_mean}
    return ours


def train_steps(case: Case) -> Outputs:
    """Whole iterations through `train_step`, every draw replayed."""
    state = train_state(case)
    losses = []
    backward = state.backward

    def noted_backward(terms: Terms, weight: float) -> Report:
        losses.append(sum(terms.losses.values()).detach().mean())
        return backward(terms, weight)

    state.backward = noted_backward
    ours = {}
    for iteration in range(case.config["iterations"]):
        inputs = under(case.inputs, f"{iteration}.")
        with Replay(inputs):
            report = step.train_step(state, [[hand_in(state, inputs)]])
        for number, (turn, role) in enumerate(ROLES.items()):
            ours[f"{iteration}.{turn}.loss"] = losses[2 * iteration + number]
            ours[f"{iteration}.{turn}.grad_norm"] = report[f"{role[0]}/grad_norm"]
        networks = {role: (role, network) for role, network in state.networks.items()}
        networks["average"] = "generator", state.average
        for title, (role, network) in networks.items():
            tensors = network.state_dict()
            for key in under(case.outputs, f"{iteration}.{title}."):
                name = rename(gat.NAMES[role], key, "gat")
                start = case.weights[f"{role}.{key}"]  # what has no effect never moves
                ours[f"{iteration}.{title}.{key}"] = tensors[name].clone() if name else start
    return ours


class Replay:
    """Recorded draws in place of random ones, in every objective, while it is entered.

    Each turn draws one view of its fake levels and one of its real level; the discriminator's turn
    also moves both.
    """

    def __init__(self, inputs: Outputs) -> None:
        self.inputs = inputs
        self.turns = {"real": turns_of(inputs), "fake": turns_of(inputs)}
        self.outputs: Outputs = {}
        """Inner results on the way."""
        stand_ins = {
            "draw_view": self.draw_view,
            "draw_moves": self.draw_moves,
            "alignment": self.alignment,
        }
        self.patch = mock.patch.multiple(objective, **stand_ins)

    def __enter__(self) -> "Replay":
        self.patch.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.patch.stop()
        if kind is None:
            assert self.turns == {"real": [], "fake": []}, "not every recorded draw was used"

    def draw_view(
        self,
        samples: Tensor,
        noise_levels: Tensor,
        config: AugmentConfig,
        draws: augment.Draws | None = None,
    ) -> view.View:
        side = side_of(samples)
        turn = self.turns[side].pop(0)
        if (turn, side) == ("disc", "fake"):
            self.outputs["disc.fake_levels"] = samples.transpose(0, 1)
        assert draws is None, "pairs of the reference are augmented apart"
        draws = draws_of(self.inputs, f"{turn}.aug_{side}.", samples.shape[-1])
        noise_draws = coarse_to_fine(self.inputs, f"{turn}.noise_{side}")
        return view.view_of(samples, draws, noise_draws, noise_levels, config)

    def draw_moves(self, samples: Tensor) -> Tensor:
        if side_of(samples) == "real":
            return self.inputs["disc.gp_real"][:, None]
        # Unlike the noise of a view, these draws are recorded coarse to fine.
        return coarse_to_fine(self.inputs, "disc.gp_fake").flip(1)

    def alignment(self, features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
        token, patches = alignment.alignment(features, teacher_features)
        self.outputs |= {"disc.kd_cls": token.detach(), "disc.kd_patch": patches.detach()}
        return token, patches


def side_of(samples: Tensor) -> str:
    return "real" if samples.shape[1] == 1 else "fake"  # one real level stands for all


def turns_of(inputs: Outputs) -> list[str]:
    return [turn for turn in ROLES if under(inputs, f"{turn}.")]


class Latents(Identity):
    """Recorded batches are samples already."""

    def sample(self, stored: Tensor) -> Tensor:
        return stored


def train_state(case: Case) -> TrainState:
    """Our train state at the recorded weights, with the recorded settings."""
    recorded = case.config
    networks = {
        role: load_reference("gat", role, recorded, under(case.weights, f"{role}."))
        for role in ("generator", "discriminator")
    }
    has_teacher = any(name.endswith("teacher_cls") for name in case.inputs)
    given = pick(
        recorded, learning_rate="base_lr", betas="betas", eps="eps", weight_decay="weight_decay",
        max_grad_norm="max_grad_norm",
    )  # fmt: skip
    config = Config(
        model=GATConfig(width=recorded["hidden_size"]),
        objective=ObjectiveConfig(
            penalty=PenaltyConfig(**pick(recorded, r1="r1_gamma", r2="r2_gamma", sigma="sigma")),
            noise=NoiseConfig(
                **pick(recorded, min_information="min_info", floor="schedule_offset")
            ),
            augment=AugmentConfig(**pick(recorded, flip="flip_probability")),
            alignment=AlignmentConfig(weight=recorded.get("proj_coeff", 1.0) * has_teacher),
        ),
        optim=OptimConfig(**given | {"betas": tuple(given.get("betas", (0.0, 0.99)))}),
        train=TrainConfig(**pick(recorded, ema_decay="ema_decay")),
    )
    levels = networks["generator"].num_levels
    return TrainState(
        config=config,
        world=World(0, 1, torch.device("cpu")),
        **networks,
        average=copy.deepcopy(networks["generator"]).requires_grad_(False),
        optimizers={
            role: build_optimizer(role, network, config) for role, network in networks.items()
        },
        autoencoder=Latents(recorded["in_channels"], recorded["input_size"]),
        objective=Objective(config.objective, ADVERSARIAL["relativistic"], levels),
    )


def pick(recorded: dict[str, Any], **names: str) -> dict[str, Any]:
    """The recorded settings under our names; what is not recorded keeps our default."""
    return {ours: recorded[theirs] for ours, theirs in names.items() if theirs in recorded}


def hand_in(state: TrainState, inputs: Outputs) -> Batch:
    """A recorded batch, its noise and its teacher's features, put where a step looks for them."""
    state.draw_noise = lambda turn, labels: inputs["z"]
    if "teacher_cls" in inputs:
        features = torch.cat([inputs["teacher_cls"][:, None], inputs["teacher_patch"]], dim=1)
        state.objective.teacher = lambda images: features
    return Batch(inputs["real"], inputs["y"], inputs.get("raw"))


@contextmanager
def judged(discriminator: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Inputs and logits of the discriminator's passes, in order."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = discriminator.register_forward_hook(
        lambda _, given, output: seen.append((given[0].detach(), output.logits.detach()))
    )
    yield seen
    hook.remove()
