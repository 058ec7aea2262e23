"""Recorded cases of a reference implementation, computed by our code.

A handler takes a case and returns what we make of its inputs, under the names of its outputs.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from scalegan.autoencoders.base import Identity
from scalegan.convert import load_reference, rename
from scalegan.interfaces import Batch, Terms
from scalegan.losses import alignment, mng, objective, view
from scalegan.losses.objective import Objective
from scalegan.ops import attention, augment, layers
from scalegan.registry import ADVERSARIAL
from scalegan.runtime.world import World
from scalegan.settings import (
    AlignmentConfig,
    AugmentConfig,
    Config,
    NoiseConfig,
    ObjectiveConfig,
    OptimConfig,
    PenaltyConfig,
    TrainConfig,
)
from scalegan.train import step
from scalegan.train.optim import build_optimizer
from scalegan.train.state import Report, TrainState

from .compare import Outputs


@dataclass(frozen=True)
class Case:
    name: str
    config: dict[str, Any]
    tolerance: dict[str, str]
    weights: Outputs
    inputs: Outputs
    outputs: Outputs
    title: str = ""
    """What the JSON calls it."""


def read(path: Path) -> Case:
    """The case of a `NAME.safetensors` and the `NAME.json` beside it."""
    tensors = load_file(path)
    about = json.loads(path.with_suffix(".json").read_text())
    parts = (under(tensors, part) for part in ("weights.", "in.", "out."))
    return Case(
        path.stem, about["config"], about.get("tolerance", {}), *parts, about.get("case", "")
    )


def under(tensors: Outputs, prefix: str) -> Outputs:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def handler(case: Case) -> Callable[[Case], Outputs]:
    """The handler of a case: by its name, by its title, or by outputs that only one kind has."""
    for text in (case.name, case.title):
        fitting = [kind for kind in HANDLERS if text.startswith(kind)]
        if fitting:
            return HANDLERS[max(fitting, key=len)]
    for kind, sign in SIGNS.items():
        if any(fnmatchcase(name, sign) for name in case.outputs):
            return HANDLERS[kind]
    raise LookupError(f"no handler for the case `{case.name}` with outputs {sorted(case.outputs)}")


def tables(case: Case) -> Outputs:
    ours = {}
    for name in case.outputs:
        kind, width, grid = re.fullmatch(r"(\w+)\.[wh](\d+)_g(\d+)", name).groups()
        if kind == "pos":
            ours[name] = layers.position_table(int(width), int(grid))
            continue
        rotary = layers.rotary_table(int(width), int(grid))
        if kind == "q_rotated":
            ours[name] = attention.rotate(case.inputs[name.replace("q_rotated", "q")], rotary)
        else:  # the reference repeats every value for its pair of channels
            part = ["rope_cos", "rope_sin"].index(kind)
            ours[name] = rotary[..., part].repeat_interleave(2, dim=1)
    return ours


def gen_forward(case: Case) -> Outputs:
    generator = load_reference("gat", "generator", case.config, case.weights)
    z, labels = case.inputs["z"], case.inputs["y"]
    first = generator.blocks[0]
    parts = {
        "attn_block0": first.attention,
        "mlp_block0": first.feedforward,
        "tokens_block0": first,
        "tokens_last": generator.blocks[-1],
        "w": generator.mapping,
    }
    with recorded(parts) as ours, torch.no_grad():
        levels = generator(z, labels)
    ours["token_std"] = ours["tokens_last"].std()
    return ours | {"levels": levels.transpose(0, 1), "final": levels[:, -1]}


@torch.no_grad()
def gen_sampling(case: Case) -> Outputs:
    generator = load_reference("gat", "generator", case.config, case.weights)
    z, labels, config = case.inputs["z"], case.inputs["y"], case.config
    plain = generator.map(z, labels)
    # The reference gives the amount of truncation: 0 changes nothing.
    psi = generator.truncate(plain, labels, 1 - config["truncation_psi"])

    def guide(w: Tensor, scale: float | Tensor) -> Tensor:
        return generator.guide(w, z, scale, official=True)

    styles = {
        "plain": plain,
        "psi": psi,
        "psi_one": generator.truncate(plain, labels, 0.0),
        "guided": guide(plain, config["guidance_scale"]),
        "guided_vec": guide(plain, case.inputs["guidance_vec"]),
        "psi_guided": guide(psi, config["guidance_scale"]),
    }
    ours = {"w_class_mean": generator.mean_over_classes(z, official=True)}
    for name, w in styles.items():
        ours |= {f"w.{name}": w, f"image.{name}": generator.synthesize(w)[:, -1]}
    return ours


@torch.no_grad()
def gen_w_avg(case: Case) -> Outputs:
    generator = load_reference("gat", "generator", case.config, case.weights)
    ours = {}
    for call in sorted({int(name.split(".")[0]) for name in case.inputs}):
        z, labels = case.inputs[f"{call}.z"], case.inputs[f"{call}.y"]
        w = generator.map(z, labels)
        ours[f"{call}.levels"] = generator.synthesize(w).transpose(0, 1)
        generator.track(w, labels)
        ours[f"{call}.w_avg"] = generator.style_mean.clone()
    return ours


@torch.no_grad()
def disc_forward(case: Case) -> Outputs:
    discriminator = load_reference("gat", "discriminator", case.config, case.weights)
    images, labels = case.inputs["images"].transpose(0, 1), case.inputs["y"]
    last = discriminator.blocks[-1]
    parts = {"tokens_block0": discriminator.blocks[0], "label_vector": discriminator.label_mapping}
    before_last = []
    last.register_forward_pre_hook(lambda _, arguments: before_last.append(arguments[0]))
    with recorded(parts) as ours:
        ours["logits"] = discriminator(images, labels).logits
    # The logit needs the last class token alone; the reference records all last tokens.
    ours["tokens_last"] = last(before_last[0], discriminator.rotary)
    ours["token_std"] = ours["tokens_last"].std()
    if discriminator.projector is not None:
        features = discriminator(images, labels, with_features=True).features
        ours |= {"feat_cls": features[:, :1], "feat_patch": features[:, 1:]}
    return ours


def noise_levels(case: Case) -> Outputs:
    config = case.config
    shares = mng.noise_schedule(config["levels"], config["min_info"], config["offset"])
    kept = 1 - shares  # what a level keeps of its image
    noise = mng.correlated_noise(coarse_to_fine(case.inputs, "seed_noise"), shares)
    real_noise = mng.correlated_noise(coarse_to_fine(case.inputs, "real_seed_noise"), shares)
    levels, real = case.inputs["images"].transpose(0, 1), case.inputs["real"][:, None]
    finer = torch.cat([kept[1:], kept.new_ones(1)])
    return {
        "schedule": shares,
        "decay": (kept / finer).flip(0),  # the reference goes from fine to coarse
        "increment_std": (mng.increments(shares) * kept).flip(0),
        "noise_only": noise.transpose(0, 1),
        "perturbed": mng.perturb(levels, noise, shares).transpose(0, 1),
        "real_perturbed": mng.perturb(real, real_noise, shares).transpose(0, 1),
    }


def augmentation(case: Case) -> Outputs:
    config, images = case.config, case.inputs["images"]
    dice = dice_of(case.inputs, "draw.", images.shape[-1])
    whole = augment_config(config, config["policy"])
    grey, mean = augment.color_means(images)

    def show(samples: Tensor, policy: str) -> Tensor:
        shown = plain_view(images, dice, augment_config(config, policy))
        return shown(samples[:, None])[:, 0]

    ours = {
        "images": show(images, config["policy"]),
        "other_same_params": show(case.inputs["other"], config["policy"]),
        "param.color_gate_mask": dice.color_gate < whole.color,
        "param.sat_mean": grey,
        "param.con_mean": mean,
        "param.cut_size": torch.tensor([augment.pixels(whole.cutout, dice.side)] * 2),
    }
    for part in ("color", "translation", "cutout", "flip"):
        ours[f"only_{part}"] = show(images, part)
    for name in ("brightness", "saturation", "contrast"):
        ours[f"param.{name}"] = getattr(dice, name).view(-1, 1, 1, 1)
    for name in ("shift_h", "shift_w", "cut_h", "cut_w"):
        ours[f"param.{name}"] = getattr(dice, name).view(-1, 1, 1)
    ours["param.flip"] = dice.flip
    for size in ("large", "small"):
        other = case.inputs[size]
        shown = plain_view(images, dice, augment_config(config, config["raw_policy"]))
        ours[f"{size}_shift_flip"] = shown.on_images(other.expand(-1, 3, -1, -1), official=True)[:, :1]
        by = augment.movement(
            dice, other.shape[-1], True, whole.cutout, whole.flip, inverse_ratio=True
        )
        ours[f"{size}_shift_cut_flip"] = augment.move(other[:, None], by)[:, 0]
    return ours


def teacher_input(case: Case) -> Outputs:
    config, raw = case.config, case.inputs["raw"]
    side = config["latent_resolution"]
    dice = dice_of(case.inputs, "draw.", side)
    pixels = alignment.teacher_input(raw, config["encoder_resolution"])
    latents = torch.zeros(len(raw), 1, side, side)
    shown = plain_view(latents, dice, AugmentConfig()).on_images(pixels, official=True)
    edge = [0, 1, 2, -3, -2, -1]
    ours = {
        "shown_mean": shown.double().mean(dim=(2, 3)),
        "shown_sq_mean": shown.double().square().mean(dim=(2, 3)),
    }
    for name, image in {"pixels": pixels, "shown": shown}.items():
        ours[f"{name}_sub"] = image[:, :, ::3, ::3]
        ours[f"{name}_edge_rows"] = image[:, :, edge]
        ours[f"{name}_edge_cols"] = image[..., edge]
    return ours


def align(case: Case) -> Outputs:
    ours = {}
    for grid in {name.split(".")[0] for name in case.inputs}:
        given = under(case.inputs, f"{grid}.")
        token = given["student_cls"].requires_grad_()
        patches = given["student_patch"].requires_grad_()
        teacher = torch.cat([given["teacher_cls"][:, None], given["teacher_patch"]], dim=1)
        kd = alignment.alignment(torch.cat([token, patches], dim=1), teacher)
        (case.config["proj_coeff"] * sum(kd).mean()).backward()
        ours |= {f"{grid}.kd_cls": kd[0].detach(), f"{grid}.kd_patch": kd[1].detach()}
        ours |= {f"{grid}.grad_student_cls": token.grad, f"{grid}.grad_student_patch": patches.grad}
    return ours


def loss(case: Case) -> Outputs:
    """Both turns of a step at the recorded weights, with every gradient; no network moves."""
    state, labels = train_state(case), case.inputs["y"]
    batch = hand_in(state, case.inputs)
    ours = {}
    with Replay(case.inputs) as replay:
        for number, (turn, role) in enumerate(ROLES.items()):
            network = state.networks[role]
            state.begin(network, [batch], number)
            with judged(state.discriminator) as seen:
                terms = TERMS[turn](state, batch)
            state.backward(terms, 1.0)
            per_sample = torch.stack(list(terms.losses.values())).sum(dim=0).detach()
            ours |= {f"{turn}.loss_per_sample": per_sample, f"{turn}.loss": per_sample.mean()}
            parts = [torch.cat(part).split(len(labels)) for part in zip(*seen, strict=True)]
            for name, levels, logits in zip(PASSES[turn], *parts, strict=True):
                ours[f"{turn}.d_input.{name}"] = levels.transpose(0, 1)
                ours[f"{turn}.logits.{name}"] = logits
            if turn == "disc":
                ours["disc.adv"] = terms.losses["d/adversarial"].detach()
                ours |= {"disc.r1": terms.watched["d/r1"], "disc.r2": terms.watched["d/r2"]}
            for key, theirs in under(case.outputs, f"{turn}.grad.").items():
                name = rename("gat", role, key)
                gradient = network.get_parameter(name).grad if name else None
                # What has no effect on our network must be recorded as zero.
                ours[f"{turn}.grad.{key}"] = (
                    torch.zeros_like(theirs) if gradient is None else gradient
                )
            network.zero_grad(set_to_none=True)
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
                name = rename("gat", role, key)
                start = case.weights[f"{role}.{key}"]  # what has no effect never moves
                ours[f"{iteration}.{title}.{key}"] = tensors[name].clone() if name else start
    return ours


HANDLERS = {
    "tables": tables,
    "gen_forward": gen_forward,
    "gen_sampling": gen_sampling,
    "gen_w_avg": gen_w_avg,
    "disc_forward": disc_forward,
    "noise_levels": noise_levels,
    "augment": augmentation,
    "teacher_input": teacher_input,
    "align": align,
    "loss": loss,
    "train_steps": train_steps,
}
# An output that cases of this kind have and others do not.
SIGNS = {
    "tables": "rope_*",
    "gen_forward": "levels",
    "gen_sampling": "w_class_mean",
    "gen_w_avg": "?.w_avg",
    "disc_forward": "label_vector",
    "noise_levels": "perturbed",
    "augment": "param.*",
    "teacher_input": "shown_*",
    "align": "*.grad_student_cls",
    "loss": "disc.adv",
    "train_steps": "?.disc.grad_norm",
}

ROLES = {"disc": "discriminator", "gen": "generator"}  # turn -> the network that moves
TERMS = {"disc": step.discriminator_terms, "gen": step.generator_terms}
# What the discriminator judges in a turn, in the order of `Objective`.
PASSES = {"disc": ("real", "fake", "real_gp", "fake_gp"), "gen": ("fake", "real")}


class Replay:
    """Recorded draws in place of random ones, in every objective, while it is entered.

    Each turn draws one view of its fake levels and one of its real level; the discriminator's turn
    also moves both.
    """

    def __init__(self, inputs: Outputs) -> None:
        self.inputs = inputs
        self.turns = {"real": list(ROLES), "fake": list(ROLES)}
        self.outputs: Outputs = {}
        """Inner results on the way."""
        stand_ins = {
            "draw_view": self.draw_view,
            "nearby": self.nearby,
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

    def draw_view(self, samples: Tensor, shares: Tensor, config: AugmentConfig) -> view.View:
        side = side_of(samples)
        turn = self.turns[side].pop(0)
        if (turn, side) == ("disc", "fake"):
            self.outputs["disc.fake_levels"] = samples.transpose(0, 1)
        dice = dice_of(self.inputs, f"{turn}.aug_{side}.", samples.shape[-1])
        draws = coarse_to_fine(self.inputs, f"{turn}.noise_{side}")
        return view.view_of(samples, dice, draws, shares, config)

    def nearby(self, samples: Tensor, sigma: float) -> Tensor:
        if side_of(samples) == "real":
            return samples + sigma * self.inputs["disc.gp_real"][:, None]
        # Unlike the noise of a view, these draws are recorded coarse to fine.
        return samples + sigma * coarse_to_fine(self.inputs, "disc.gp_fake").flip(1)

    def alignment(self, features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
        token, patches = alignment.alignment(features, teacher_features)
        self.outputs |= {"disc.kd_cls": token.detach(), "disc.kd_patch": patches.detach()}
        return token, patches


class Latents(Identity):
    """Recorded batches are samples already."""

    def sample(self, stored: Tensor) -> Tensor:
        return stored


def side_of(samples: Tensor) -> str:
    return "real" if samples.shape[1] == 1 else "fake"  # one real level stands for all


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
            role: build_optimizer(network, recorded["hidden_size"], config.optim)
            for role, network in networks.items()
        },
        autoencoder=Latents(recorded["in_channels"], recorded["input_size"]),
        objective=Objective(config.objective, ADVERSARIAL["relativistic"], levels),
    )


def pick(recorded: dict[str, Any], **names: str) -> dict[str, Any]:
    """The recorded settings under our names; what is not recorded keeps our default."""
    return {ours: recorded[theirs] for ours, theirs in names.items() if theirs in recorded}


def hand_in(state: TrainState, inputs: Outputs) -> Batch:
    """A recorded batch, its noise and its teacher's features, put where a step looks for them."""
    state.draw_noise = lambda labels: inputs["z"]
    if "teacher_cls" in inputs:
        features = torch.cat([inputs["teacher_cls"][:, None], inputs["teacher_patch"]], dim=1)
        state.objective.teacher = lambda images: features
    return Batch(inputs["real"], inputs["y"], inputs.get("raw"))


@contextmanager
def recorded(modules: dict[str, nn.Module]) -> Iterator[Outputs]:
    """The outputs of inner modules, by the names given to them."""
    outputs: Outputs = {}
    hooks = [
        module.register_forward_hook(lambda *call, name=name: outputs.update({name: call[-1]}))
        for name, module in modules.items()
    ]
    yield outputs
    for hook in hooks:
        hook.remove()


@contextmanager
def judged(discriminator: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Inputs and logits of the discriminator's passes, in order."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = discriminator.register_forward_hook(
        lambda _, given, output: seen.append((given[0].detach(), output.logits.detach()))
    )
    yield seen
    hook.remove()


def coarse_to_fine(inputs: Outputs, name: str) -> Tensor:
    """Draws recorded one by one, the finest level first, as (N, L, C, H, W)."""
    draws = under(inputs, f"{name}.")
    return torch.stack([draws[str(k)] for k in reversed(range(len(draws)))], dim=1)


def dice_of(inputs: Outputs, prefix: str, side: int) -> augment.Dice:
    draws = {name: draw.flatten() for name, draw in under(inputs, prefix).items()}
    return augment.Dice(side, **draws)


def augment_config(recorded: dict[str, Any], policy: str) -> AugmentConfig:
    names = {
        "color": "color_probability",
        "translation": "shift_ratio",
        "cutout": "cut_ratio",
        "flip": "flip_probability",
    }
    parts = policy.split(",")
    return AugmentConfig(**{k: recorded[v] if k in parts else 0.0 for k, v in names.items()})


def plain_view(images: Tensor, dice: augment.Dice, config: AugmentConfig) -> view.View:
    """An augmentation alone: a view of one level without noise."""
    levels = images[:, None]
    return view.view_of(levels, dice, torch.zeros_like(levels), torch.zeros(1), config)
