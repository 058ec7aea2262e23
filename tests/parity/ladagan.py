"""Our LadaGAN on the inputs of a case, under the names of its outputs; one handler per kind."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.config.objective import AugmentConfig
from scalegan.convert import ladagan as reference
from scalegan.convert.renaming import Names, fill, rename
from scalegan.layers.attention import AdditiveAttention
from scalegan.losses import augment
from scalegan.losses.adversarial import logistic_discriminator, logistic_generator
from scalegan.losses.penalties import exact
from scalegan.models import ladagan as models
from tests.support.reference_settings import load_reference

from .cases import Case, under
from .compare import Outputs
from .handlers import plain_view, recorded


def handler(case: Case) -> Callable[[Case], Outputs]:
    """The handler of a case, by the settings that it names."""
    said = case.config.keys() | case.config.get("ctor", {}).keys()
    for needed, handle in HANDLERS.items():
        if said >= set(needed):
            return handle
    raise LookupError(f"no handler for the case `{case.name}` with settings {sorted(said)}")


def part(make: Callable[[], nn.Module], names: Names, case: Case) -> nn.Module:
    return fill(make, names, case.weights, case.name)


def sizes(case: Case, network: str = "ctor") -> dict[str, Any]:
    """The arguments of a network; the side of its images may stand beside them."""
    beside = {key: case.config[key] for key in ("img_size",) if key in case.config}
    return beside | case.config[network]


def gradients(network: nn.Module, theirs: Outputs, names: Names) -> Outputs:
    """Gradients of our parameters, under the reference's names, where those are recorded."""
    ours = {name: parameter.grad for name, parameter in network.named_parameters()}
    found = {key: ours[rename(names, key, "case")] for key in theirs}
    return {key: grad for key, grad in found.items() if grad is not None}


def additive_attention(case: Case) -> Outputs:
    config, x = case.config["ctor"], case.inputs["x"].requires_grad_()
    make = lambda: AdditiveAttention(config["dim"], config["heads"])  # noqa: E731
    attention = part(make, reference.ATTENTION, case)
    q = attention.into(x).chunk(3, dim=-1)[0]
    weights = attention.weigh(q)
    y = attention(x)
    ours = {"y": y.detach(), "attn": weights.mT.detach(), "global_q": attention.pool(q, weights)}
    if "cotangent" in case.inputs:
        y.backward(case.inputs["cotangent"])
        theirs = under(case.outputs, "grad.")
        grads = gradients(attention, theirs, reference.ATTENTION)
        ours |= {"grad_x": x.grad} | {f"grad.{key}": grad for key, grad in grads.items()}
    return {name: value.detach() for name, value in ours.items()}


@torch.no_grad()
def self_modulated_layernorm(case: Case) -> Outputs:
    config = case.config["ctor"]
    make = lambda: models.ModulatedNorm(config["dim"], config["cond_dim"])  # noqa: E731
    return {"y": part(make, reference.NORM, case)(case.inputs["x"], case.inputs["z"])}


@torch.no_grad()
def generator_block(case: Case) -> Outputs:
    config, x = case.config["ctor"], case.inputs["x"]
    args = [config[name] for name in ("dim", "cond_dim", "heads", "mlp_dim")]
    block = part(lambda: models.GeneratorBlock(*args), reference.GENERATOR_BLOCK, case)
    with recorded({"attention": block.attention}) as inner:
        y = block(x, case.inputs["z"])
    return {"y": y, "after_attention": x + inner["attention"]}


@torch.no_grad()
def discriminator_block(case: Case) -> Outputs:
    config, x = case.config["ctor"], case.inputs["x"]
    args = [config[name] for name in ("dim", "heads", "mlp_dim")]
    block = part(lambda: models.DiscriminatorBlock(*args), reference.DISCRIMINATOR_BLOCK, case)
    with recorded({"attention": block.attention}) as inner:
        y = block(x)
    return {"y": y, "after_attention": x + inner["attention"]}


@torch.no_grad()
def down_block(case: Case) -> Outputs:
    config, x = case.config["ctor"], case.inputs["x"]
    same: Names = [(r"((?:main|direct)\..+)", r"\1")]
    block = part(lambda: models.DownBlock(config["in_planes"], config["out_planes"]), same, case)
    return both_modes(block, same, case, lambda: block(x), "y")


@torch.no_grad()
def discriminator(case: Case) -> Outputs:
    network = load_reference("ladagan", "discriminator", sizes(case), case.weights)
    x = case.inputs["x"]
    logits = lambda: network(x[:, None], no_labels(x)).logits  # noqa: E731
    return both_modes(network, discriminator_names(network), case, logits, "logits")


def both_modes(
    network: nn.Module, names: Names, case: Case, call: Callable[[], Tensor], name: str
) -> Outputs:
    """By stored and by batch statistics, and what a forward pass makes of the stored ones."""
    ours = {f"{name}_eval": call()}
    network.train()
    ours[f"{name}_train"] = call()
    after = network.state_dict()
    theirs = under(case.outputs, "after_train.")
    return ours | {f"after_train.{key}": after[rename(names, key, "case")] for key in theirs}


@torch.no_grad()
def generator(case: Case) -> Outputs:
    network = load_reference("ladagan", "generator", sizes(case), case.weights)
    names = [f"block_{tokens}" for tokens in reference.STAGES]
    with recorded(dict(zip(names, network.blocks, strict=True))) as ours:
        ours["y"] = network(case.inputs["z"], no_labels(case.inputs["z"]))[:, 0]
    return ours


def losses(case: Case) -> Outputs:
    """One iteration in training mode; the forward passes in the order of the reference."""
    given = {side: under(case.weights, f"{side}.") for side in ("G", "D")}
    g = load_reference("ladagan", "generator", sizes(case, "generator"), given["G"]).train()
    d_sizes = {"img_size": case.inputs["real"].shape[-1]} | sizes(case, "discriminator")
    d = load_reference("ladagan", "discriminator", d_sizes, given["D"]).train()
    real = case.inputs["real"][:, None].requires_grad_()
    labels = no_labels(real)
    fake = g(case.inputs["z_d"], labels).detach()
    real_logits, fake_logits = d(real, labels).logits, d(fake, labels).logits
    d_logistic, r1 = logistic_discriminator(real_logits, fake_logits), exact(real_logits, real)
    d_total = (d_logistic + case.config["gamma"] * r1).mean()
    d_total.backward()
    ours = {
        "real_logits": real_logits, "fake_logits": fake_logits, "d_logistic": d_logistic.mean(),
        "r1": r1.mean(), "d_total": d_total,
    }  # fmt: skip
    of_d = gradients(d, under(case.outputs, "grad_D."), discriminator_names(d))
    ours |= {f"grad_D.{key}": grad for key, grad in of_d.items()}
    d.requires_grad_(False)
    g_logits = d(g(case.inputs["z_g"], labels), labels).logits
    g_loss = logistic_generator(g_logits).mean()
    g_loss.backward()
    of_g = gradients(g, under(case.outputs, "grad_G."), reference.GENERATOR)
    ours |= {f"grad_G.{key}": grad for key, grad in of_g.items()}
    return {k: v.detach() for k, v in (ours | {"g_logits": g_logits, "g_loss": g_loss}).items()}


def diffaugment(case: Case) -> Outputs:
    """Every change is ours with the draws of the later ones thrown so that nothing changes."""
    x, given, ratios = case.inputs["x"], case.inputs, case.config["ratios"]
    color = {
        name: given[f"u_{name}"].flatten() for name in ("brightness", "saturation", "contrast")
    }
    idle = torch.full((len(x),), 0.5)  # u - 0.5 = 0, 2 u = 1, u + 0.5 = 1
    moves = {name: given[name].flatten() for name in ("shift_h", "shift_w", "cut_h", "cut_w")}
    ours = {}
    for i, name in enumerate(("brightness", "saturation", "contrast", "translation", "cutout")):
        thrown = color | {later: idle for later in list(color)[i + 1 :]}
        draws = augment.Draws(x.shape[-1], **thrown, color_gate=idle, **moves, flip=idle)
        translation = ratios["translation"] if i >= 3 else 0.0
        cutout = ratios["cutout"] if i >= 4 else 0.0
        config = AugmentConfig(1.0, translation, cutout, 0.0, in_turn=True)
        ours[f"after_{name}"] = plain_view(x, draws, config)(x[:, None])[:, 0]
    return ours


def discriminator_names(network: models.LadaGANDiscriminator) -> Names:
    return reference.discriminator_names(len(network.blocks) - 1)


def no_labels(like: Tensor) -> Tensor:
    return torch.zeros(len(like), dtype=torch.int64)


# By what only the configuration of such a case says; the first that fits.
HANDLERS = {
    ("gamma", "generator", "discriminator"): losses,
    ("ratios",): diffaugment,
    ("enc_dim",): discriminator,
    ("noise_dim",): generator,
    ("in_planes", "out_planes"): down_block,
    ("cond_dim", "heads", "mlp_dim"): generator_block,
    ("heads", "mlp_dim"): discriminator_block,
    ("cond_dim",): self_modulated_layernorm,
    ("heads",): additive_attention,
}
