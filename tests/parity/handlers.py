"""Our code on the inputs of a case, under the names of its outputs; one handler per kind."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.config.objective import AugmentConfig
from scalegan.layers import attention
from scalegan.layers import transformer as layers
from scalegan.losses import alignment, augment, mng, view
from tests.support.reference_settings import load_reference

from .cases import Case, coarse_to_fine, draws_of, under
from .compare import Outputs
from .replay import loss, train_steps


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
        match = re.fullmatch(r"(pos|rope_cos|rope_sin|q_rotated)\.[wh](\d+)_g(\d+)", name)
        if match is None:
            continue
        kind, width, grid = match[1], int(match[2]), int(match[3])
        if kind == "pos":
            ours[name] = layers.position_table(width, grid)
            continue
        rotary = layers.rotary_table(width, grid)
        if kind == "q_rotated":
            ours[name] = attention.rotate(case.inputs[name.replace("q_rotated", "q")], rotary)
        else:  # the reference repeats every value for its pair of channels
            part = rotary[..., 0 if kind == "rope_cos" else 1]
            ours[name] = part.repeat_interleave(2, dim=1)
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
    psi = generator.truncate(plain, labels, 1 - config.get("truncation_psi", 0.0))

    def guide(w: Tensor, scale: float | Tensor) -> Tensor:
        return generator.guide(w, z, scale, official=True)

    styles = {
        "plain": plain,
        "psi": psi,
        "psi_one": generator.truncate(plain, labels, 0.0),
        "guided": guide(plain, config.get("guidance_scale", 1.0)),
        "guided_vec": guide(plain, case.inputs.get("guidance_vec", 1.0)),
        "psi_guided": guide(psi, config.get("guidance_scale", 1.0)),
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
    amounts = mng.noise_schedule(config["levels"], config["min_info"], config["offset"])
    kept = 1 - amounts  # what a level keeps of its image
    noise = mng.correlated_noise(coarse_to_fine(case.inputs, "seed_noise"), amounts)
    real_noise = mng.correlated_noise(coarse_to_fine(case.inputs, "real_seed_noise"), amounts)
    levels, real = case.inputs["images"].transpose(0, 1), case.inputs["real"][:, None]
    finer = torch.cat([kept[1:], kept.new_ones(1)])
    return {
        "schedule": amounts,
        "decay": (kept / finer).flip(0),  # the reference goes from fine to coarse
        "increment_std": (mng.increments(amounts) * kept).flip(0),
        "noise_only": noise.transpose(0, 1),
        "perturbed": mng.perturb(levels, noise, amounts).transpose(0, 1),
        "real_perturbed": mng.perturb(real, real_noise, amounts).transpose(0, 1),
    }


def augmentation(case: Case) -> Outputs:
    config, images = case.config, case.inputs["images"]
    draws = draws_of(case.inputs, "draw.", images.shape[-1])
    whole = augment_config(config, config["policy"])
    gray, mean = augment.color_means(images)

    def show(samples: Tensor, policy: str) -> Tensor:
        shown = plain_view(images, draws, augment_config(config, policy))
        return shown(samples[:, None])[:, 0]

    ours = {
        "images": show(images, config["policy"]),
        "param.color_gate_mask": draws.color_gate < whole.color,
        "param.sat_mean": gray,
        "param.con_mean": mean,
        "param.cut_size": torch.tensor([augment.pixels(whole.cutout, draws.side)] * 2),
    }
    for part in ("color", "translation", "cutout", "flip"):
        ours[f"only_{part}"] = show(images, part)
    for name in ("brightness", "saturation", "contrast"):
        ours[f"param.{name}"] = getattr(draws, name).view(-1, 1, 1, 1)
    for name in ("shift_h", "shift_w", "cut_h", "cut_w"):
        ours[f"param.{name}"] = getattr(draws, name).view(-1, 1, 1)
    ours["param.flip"] = draws.flip
    if "other" in case.inputs:
        ours["other_same_params"] = show(case.inputs["other"], config["policy"])
    for size in sorted({"large", "small"} & set(case.inputs)):
        other = case.inputs[size]
        shown = plain_view(images, draws, augment_config(config, config["raw_policy"]))
        three = shown.on_images(other.expand(-1, 3, -1, -1), official=True)  # a image has three
        ours[f"{size}_shift_flip"] = three[:, :1]
        by = augment.make_warp(
            draws, other.shape[-1], True, whole.cutout, whole.flip, inverse_ratio=True
        )
        ours[f"{size}_shift_cut_flip"] = augment.apply_warp(other[:, None], by)[:, 0]
    return ours


def teacher_input(case: Case) -> Outputs:
    config, raw = case.config, case.inputs["raw"]
    side = config["latent_resolution"]
    draws = draws_of(case.inputs, "draw.", side)
    pixels = alignment.teacher_input(raw, config["encoder_resolution"])
    latents = torch.zeros(len(raw), 1, side, side)
    shown = plain_view(latents, draws, AugmentConfig()).on_images(pixels, official=True)
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
        (case.config.get("proj_coeff", 1.0) * sum(kd).mean()).backward()
        ours |= {f"{grid}.kd_cls": kd[0].detach(), f"{grid}.kd_patch": kd[1].detach()}
        ours |= {f"{grid}.grad_student_cls": token.grad, f"{grid}.grad_student_patch": patches.grad}
    return ours


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


def augment_config(recorded: dict[str, Any], policy: str) -> AugmentConfig:
    names = {
        "color": "color_probability",
        "translation": "shift_ratio",
        "cutout": "cut_ratio",
        "flip": "flip_probability",
    }
    parts = policy.split(",")
    return AugmentConfig(**{k: recorded[v] if k in parts else 0.0 for k, v in names.items()})


def plain_view(images: Tensor, draws: augment.Draws, config: AugmentConfig) -> view.View:
    """An augmentation alone: a view of one level without noise."""
    levels = images[:, None]
    return view.view_of(levels, draws, torch.zeros_like(levels), torch.zeros(1), config)


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
