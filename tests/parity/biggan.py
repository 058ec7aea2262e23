"""BigGAN on the inputs of a case, under the names of its outputs; one handler per kind."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scalegan.config.models import BigGANConfig
from scalegan.convert.biggan import hub_generator, rename, renamed
from scalegan.layers.attention import PooledAttention
from scalegan.layers.batch_norm import standing_statistics
from scalegan.layers.spectral import Conv, Embedding, Linear, SpectralNorm
from scalegan.losses.penalties import orthogonality
from scalegan.losses.tables import ADVERSARIAL
from scalegan.models import biggan
from scalegan.train.optim import update_average
from tests.support.reference_settings import biggan_config, load_reference

from .cases import Case, under
from .compare import Outputs


def handler(case: Case) -> Callable[[Case], Outputs]:
    """The handler of a case: the first kind whose sign is among its tensors."""
    names = [f"in.{name}" for name in case.inputs] + [f"out.{name}" for name in case.outputs]
    for kind, sign in SIGNS.items():
        if any(fnmatchcase(name, sign) for name in names):
            return HANDLERS[kind]
    raise LookupError(f"no handler for the case `{case.name}` with outputs {sorted(case.outputs)}")


def spectral_norm(case: Case) -> Outputs:
    config, ours = case.config, {}
    normal = partial(SpectralNorm, eps=config["eps"])
    for kind, sizes in config["ctor"].items():
        make = {"conv": Conv, "linear": Linear, "embedding": Embedding}[kind]
        layer = load(make(normal, *sizes), under(case.weights, f"{kind}."))
        x = case.inputs[f"{kind}.x"]
        effective: list[Tensor] = []
        layer.normal.register_forward_hook(lambda *call, seen=effective: seen.append(call[-1]))
        for turn in range(1, config["sn_iters"] + 1):
            with torch.no_grad():
                ours[f"{kind}.train{turn}.y"] = layer(x)
            ours[f"{kind}.train{turn}.u"] = layer.normal.u.clone()
            ours[f"{kind}.train{turn}.sv"] = layer.normal.sigma.clone()
            ours[f"{kind}.train{turn}.weight"] = effective[-1]
        ours[f"{kind}.eval.y"] = layer.eval()(x).detach()
        ours[f"{kind}.eval.u"] = layer.normal.u.clone()
        layer.train()(x).backward(case.inputs[f"{kind}.cotangent"])
        ours[f"{kind}.grad_weight"] = layer.weight.grad
        ours[f"{kind}.grad_u"] = layer.normal.u.clone()
    return ours


@torch.no_grad()
def spectral_norm_options(case: Case) -> Outputs:
    sizes, x, eps = case.config["ctor"], case.inputs["x"], case.config["eps"]
    three = Linear(partial(SpectralNorm, eps=eps, iterations=3), *sizes)
    load(three, under(case.weights, "three_itrs."))
    ours = {"eval_y": three.eval()(x), "train_y": three.train()(x)}
    ours |= {"train_u": three.normal.u, "train_sv": three.normal.sigma}
    two = Linear(partial(SpectralNorm, eps=eps, num_values=2), *sizes)
    load(two, under(case.weights, "two_svs."))
    two(x)
    ours["two_sv_y"] = two(x)
    for row in range(2):
        ours[f"two_sv_u{row}"] = two.normal.u[row : row + 1]
        ours[f"two_sv_sv{row}"] = two.normal.sigma[row : row + 1]
    return ours


def conditional_norm(case: Case) -> Outputs:
    norm, labels = norm_of(case), case.inputs["y"]
    load(norm, case.weights)
    if not labels.is_floating_point():
        labels = F.one_hot(labels, case.config["ctor"]["input_size"]).float()
    x = case.inputs["x"].requires_grad_()
    ours = {"eval": norm.eval()(x, labels).detach(), "train": norm.train()(x, labels)}
    ours["train"].backward(case.inputs["cotangent"])
    ours |= {"train": ours["train"].detach(), "grad_x_train": x.grad}
    return ours | states(norm, case.outputs, "after_train.")


def standing(case: Case) -> Outputs:
    norm, inputs = norm_of(case), case.inputs
    weights = {key.removeprefix("bn."): value for key, value in case.weights.items()}
    weights.pop("accumulation_counter")  # ours counts what it keeps
    load(norm, weights)
    last = inputs["x_eval"], inputs["y_eval"]
    ours = {"eval_before": norm.eval()(*last)}
    norm.train()
    with torch.no_grad(), standing_statistics(norm):
        for turn in range(sum(fnmatchcase(name, "x[0-9]*") for name in inputs)):
            ours[f"train{turn}"] = norm(inputs[f"x{turn}"], inputs[f"y{turn}"])
        kept = torch.stack(norm.standing)
    ours |= {"sum_mean": kept[:, 0].sum(0), "sum_var": kept[:, 1].sum(0)}
    ours["count"] = torch.tensor([float(len(kept))])
    ours["eval_standing"] = norm.eval()(*last)
    return ours | states(norm, case.outputs, "after.")


@torch.no_grad()
def self_attention(case: Case) -> Outputs:
    normal = partial(SpectralNorm, eps=case.config["sn_eps"])
    block = PooledAttention(normal, case.config["ctor"]["ch"])
    load(block, case.weights).eval()
    return {"y": block(case.inputs["x"]), "attention": block.weights(case.inputs["x"])}


@torch.no_grad()
def generator_block(case: Case) -> Outputs:
    ctor, normal = case.config["ctor"], partial(SpectralNorm, eps=case.config["sn_eps"])
    layer = biggan.Layer(ctor["in_channels"], ctor["out_channels"], ctor["upsample"])
    config = BigGANConfig(norm_eps=case.config["bn_eps"], spectral_eps=case.config["sn_eps"])
    is_deep = "conv3.weight" in case.weights
    make = biggan.DeepGeneratorBlock if is_deep else biggan.GeneratorBlock
    block = make(normal, layer, partial(biggan.ConditionalNorm, config, ctor["cond_dim"]))
    load(block, case.weights)
    given = case.inputs["x"], case.inputs["y"]
    ours = {"eval": block.eval()(*given), "train": block.train()(*given)}
    return ours | states(block, case.outputs, "after_train.")


@torch.no_grad()
def discriminator_block(case: Case) -> Outputs:
    ctor, normal = case.config["ctor"], partial(SpectralNorm, eps=case.config["sn_eps"])
    layer = biggan.Layer(ctor["in_channels"], ctor["out_channels"], bool(ctor["downsample"]))
    if "conv3.weight" in case.weights:
        block: nn.Module = biggan.DeepDiscriminatorBlock(normal, layer)
    else:
        is_first = not ctor.get("preactivation", True)
        block = biggan.DiscriminatorBlock(normal, layer, is_first, ctor.get("wide", True))
    load(block, case.weights)
    ours = {"eval": block.eval()(case.inputs["x"]), "train": block.train()(case.inputs["x"])}
    return ours | states(block, case.outputs, "after_train.")


@torch.no_grad()
def whole_generator(case: Case) -> Outputs:
    network = load_reference("biggan", "generator", settings(case), case.weights)
    z, labels = case.inputs["z"], case.inputs["y"]
    ours = {"img_eval": network(z, labels)[:, -1]}
    # Without a shared embedding the reference hands on the labels themselves.
    ours["shared_y"] = labels if network.shared is None else network.shared(labels)
    ours["img_train"] = network.train()(z, labels)[:, -1]
    return ours | states(network, case.outputs, "after_train.", "generator")


def whole_discriminator(case: Case) -> Outputs:
    network = load_reference("biggan", "discriminator", settings(case), case.weights)
    x, labels = case.inputs["x"].requires_grad_(), case.inputs["y"]
    features: list[Tensor] = []
    network.head.register_forward_pre_hook(lambda _, given: features.append(given[0].detach()))
    logits = network(x[:, None], labels).logits
    logits.backward(case.inputs["cotangent"])
    ours = {"logits_eval": logits.detach(), "features_eval": features[0], "grad_x_eval": x.grad}
    with torch.no_grad():
        ours["logits_train"] = network.train()(x[:, None], labels).logits
    model = biggan_config("discriminator", settings(case))
    return ours | states(network, case.outputs, "after_train.", "discriminator", model)


def statistics_at(truncation: float, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose last batch statistics are those of a truncation, as the released code has them.

    Between two stored truncations it weighs their rows the wrong way round; ours takes the last
    row, and measures the statistics of other truncations.
    """
    changed = dict(weights)
    for key, table in weights.items():
        if key.endswith((".running_means", ".running_vars")):
            share, below = math.modf(truncation / (1 / (len(table) - 1)))
            row = table[int(below)]
            if share:
                row = share * row + (1 - share) * table[int(below) + 1]
            changed[key] = row[None]
    return changed


@torch.no_grad()
def hub(case: Case) -> Outputs:
    ours = {}
    for name in case.outputs:
        truncation = float(re.match(r"img_trunc_(\d+(\.\d+)?)", name)[1])
        network = hub_generator(case.config["ctor"], statistics_at(truncation, case.weights))
        w = torch.cat([case.inputs["onehot"] @ network.shared.weight, case.inputs["z"]], dim=1)
        ours[name] = network.synthesize(w)[:, -1]
    return ours


def orthogonal(case: Case) -> Outputs:
    """The gradient of our term is what the reference adds."""
    weights = {key: value.requires_grad_() for key, value in case.weights.items()}
    strength, skipped = case.config["strength"], case.config["blacklist"]
    plain = {key: weights.pop(key) for key in under(case.outputs, "grad_default.")}
    matrices = [w for key, w in weights.items() if w.ndim > 1 and key not in skipped]
    (strength * orthogonality(matrices)).backward()
    (strength * sum(map(classic_orthogonality, plain.values()))).backward()
    none = torch.zeros_like
    ours = {f"grad.{k}": none(w) if w.grad is None else w.grad for k, w in weights.items()}
    return ours | {f"grad_default.{key}": weight.grad for key, weight in plain.items()}


def classic_orthogonality(weight: Tensor) -> Tensor:
    """The same with the diagonal, which asks for rows of length one."""
    products = weight.flatten(1) @ weight.flatten(1).mT
    return (products - torch.eye(len(products))).square().sum() / 2


def losses(case: Case) -> Outputs:
    ours = {}
    for kind in ("hinge", "logistic"):
        real = case.inputs["real_logits"].clone().requires_grad_()
        fake = case.inputs["fake_logits"].clone().requires_grad_()
        # An opponent that costs nothing leaves the other half of the loss.
        of_real, of_fake = halves(ADVERSARIAL[kind].discriminator, real, fake)
        (of_real + of_fake).backward()
        ours |= {f"{kind}_d_real": of_real.detach(), f"{kind}_d_fake": of_fake.detach()}
        ours |= {f"{kind}_d_grad_real": real.grad, f"{kind}_d_grad_fake": fake.grad.clone()}
        fake.grad = None
        of_generator = ADVERSARIAL[kind].generator(fake).mean()
        of_generator.backward()
        ours |= {f"{kind}_g": of_generator.detach(), f"{kind}_g_grad": fake.grad}
    return ours


def halves(loss: Callable[..., Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The discriminator's loss on real and on fake logits alone."""
    of_real = loss(real, torch.full_like(real, -torch.inf)).mean()
    return of_real, loss(torch.full_like(fake, torch.inf), fake).mean()


def ema(case: Case) -> Outputs:
    config, start = case.config, under(case.weights, "source.")
    rows, columns = start["weight"].shape
    source, target = (
        load(Linear(partial(SpectralNorm, eps=1e-6), columns, rows), start) for _ in range(2)
    )
    ours = {}
    for turn in sorted({int(name.split(".")[0].rsplit("_", 1)[1]) for name in case.outputs}):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter += 0.1 * turn
        decay = config["decay"] if turn >= config["start_itr"] else 0.0  # pegged until the start
        update_average(target, source, decay, buffers="average")
        ours |= states(target, case.outputs, f"target_after_{turn}.")
    return ours


def training_step(case: Case) -> Outputs:
    """One turn of each network, without optimizers: what a trainer does in between."""
    ours, inputs, pair = {}, case.inputs, ADVERSARIAL["hinge"]
    config = {"model": case.config["model"]}
    configs = {"G": config | case.config["generator"], "D": config | case.config["discriminator"]}
    maker = load_reference("biggan", "generator", configs["G"], under(case.weights, "G.")).train()
    discriminator = load_reference(
        "biggan", "discriminator", configs["D"], under(case.weights, "D.")
    ).train()

    with torch.no_grad():  # still in training mode: batch statistics and u move
        fake = maker(inputs["z_d"], inputs["y_d"])
    # One forward for both: one power iteration. Fakes have classes of their own.
    labels = torch.cat([inputs["y_d"], inputs["y_real"]])
    logits = discriminator(torch.cat([fake, inputs["x_real"][:, None]]), labels).logits
    ours["d_fake"], ours["d_real"] = (part.detach() for part in logits.split(len(fake)))
    pair.discriminator(logits[len(fake) :], logits[: len(fake)]).mean().backward()
    of_real, of_fake = halves(pair.discriminator, ours["d_real"], ours["d_fake"])
    ours |= {"hinge_d_real": of_real, "hinge_d_fake": of_fake}

    discriminator.requires_grad_(False)  # frozen, but in training mode: its u moves
    fake = maker(inputs["z_g"], inputs["y_g"])
    logits = discriminator(fake, inputs["y_g"]).logits  # reals are not shown again
    loss = pair.generator(logits).mean()
    loss.backward()
    ours |= {"g_logits": logits.detach(), "g_loss": loss.detach()}

    for letter, network in (("G", maker), ("D", discriminator)):
        role = "generator" if letter == "G" else "discriminator"
        ours |= states(network, case.outputs, f"after.{letter}.", role)
        for key in under(case.outputs, f"grad_{letter}."):
            name, _ = rename(role, key, BigGANConfig())
            ours[f"grad_{letter}.{key}"] = network.get_parameter(name).grad
    return ours


def settings(case: Case) -> dict[str, Any]:
    return case.config["ctor"] | {"model": case.config["model"]}


def norm_of(case: Case) -> biggan.ConditionalNorm:
    """A conditional norm of vectors, or of classes where the weights are tables."""
    config, ctor = case.config, case.config["ctor"]
    is_linear = "gain.u0" in case.weights
    model = BigGANConfig(
        norm_eps=config["bn_eps"],
        spectral_eps=config["sn_eps"],
        shared_width=int(is_linear),
        is_hierarchical=False,
    )
    return biggan.ConditionalNorm(model, ctor["input_size"], ctor["output_size"])


def load(module: nn.Module, weights: Outputs) -> Any:
    module.load_state_dict(renamed("generator", BigGANConfig(), weights))
    return module


def states(
    module: nn.Module,
    names: Iterable[str],
    prefix: str,
    role: str = "generator",
    model: BigGANConfig | None = None,
) -> Outputs:
    """The tensors of a module that are recorded under a prefix, by their recorded names."""
    ours, tensors = {}, module.state_dict()
    for key in under(dict.fromkeys(names), prefix):
        name, row = rename(role, key, model or BigGANConfig())
        value = tensors[name]
        ours[f"{prefix}{key}"] = (value if row is None else value[row : row + 1]).clone()
    return ours


HANDLERS = {
    "hub": hub,
    "training_step": training_step,
    "generator": whole_generator,
    "discriminator": whole_discriminator,
    "ema": ema,
    "losses": losses,
    "orthogonal_regularization": orthogonal,
    "self_attention": self_attention,
    "spectral_norm_options": spectral_norm_options,
    "spectral_norm": spectral_norm,
    "standing_statistics": standing,
    "ccbn": conditional_norm,
    "g_block": generator_block,
    "d_block": discriminator_block,
}
# A tensor that cases of this kind have; the first that fits counts.
SIGNS = {
    "hub": "in.onehot",
    "training_step": "out.g_loss",
    "generator": "out.img_eval",
    "discriminator": "out.logits_eval",
    "ema": "out.target_after_*",
    "losses": "out.hinge_g",
    "orthogonal_regularization": "out.grad_default.*",
    "self_attention": "out.attention",
    "spectral_norm_options": "out.two_sv_y",
    "spectral_norm": "out.*.train1.y",
    "standing_statistics": "out.eval_standing",
    "ccbn": "out.grad_x_train",
    "g_block": "in.y",
    "d_block": "out.eval",
}
