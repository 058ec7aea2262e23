"""GANsformer's vectors: our code on the inputs of a case, one handler per kind."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scalegan.config.models import GANsformerConfig
from scalegan.convert import gansformer as reference
from scalegan.layers import resample
from scalegan.layers.bipartite import Attention, BipartiteAttention, direction_table
from scalegan.layers.mapping import Mapping
from scalegan.layers.stylegan import modulated_convolve
from scalegan.losses.adversarial import logistic_discriminator, logistic_generator
from scalegan.losses.penalties import exact
from scalegan.models.gansformer import (
    GANsformerGenerator,
    SynthesisBlock,
    SynthesisLayer,
    make_mapping,
)
from tests.support.reference_settings import gansformer_config, load_reference

from .cases import Case, under
from .compare import Outputs


def handler(case: Case) -> Callable[[Case], Outputs]:
    """The handler of a case, by its name."""
    fitting = [kind for kind in HANDLERS if case.name.startswith(kind)]
    if not fitting:
        raise LookupError(f"no handler for the case `{case.name}`")
    return HANDLERS[max(fitting, key=len)]


class Masked(BipartiteAttention):
    """The reference also takes a mask of latents; no network of ours does."""

    mask: Tensor | None = None

    def scores(self, seekers: Tensor, sought: Tensor) -> Attention:
        scores = super().scores(seekers, sought)
        return scores if self.mask is None else scores - 10000 * (1 - self.mask)[:, None, None]


def attention_layer(
    ctor: dict[str, Any], weights: Outputs, num_pixels: int, has_positions: bool, is_first: bool
) -> Masked:
    config = gansformer_config(ctor)

    def build() -> Masked:
        return Masked(
            ctor["dim"],
            ctor["to_dim"],
            ctor["pos_dim"],
            ctor["to_len"],
            num_pixels,
            num_heads=config.num_heads,
            is_duplex=config.attention == "duplex",
            has_positions=has_positions,
            integration=config.integration,
            norm=config.norm,
            component_gate=config.component_gate,
            pixel_gate=config.pixel_gate,
            clusterings=config.clusterings,
            carries_assignments=config.carries_assignments,
            is_first=is_first,
        )

    names = lambda key: reference.rename_by(reference.ATTENTION, key)  # noqa: E731
    layer = reference.load(build, weights, names, config)
    assert isinstance(layer, Masked)
    return layer


def attention(case: Case) -> Outputs:
    given = case.inputs
    (height, width), positions = case.config["hw"], given.get("latent_pos")
    layer = attention_layer(
        case.config["ctor"], case.weights, height * width, positions is not None, True
    )
    x, y = given["x"].requires_grad_(), given["latents"].requires_grad_()
    grid = given["grid_pos"].flatten(0, 1)
    layer.mask = given.get("mask")
    out, seen, assignments = layer(x, y, grid, positions)
    (out * given["cotangent"]).sum().backward()
    ours = {
        "x": out,
        "attention": maps(seen, (height, width)),
        "grad_x": x.grad,
        "grad_y": torch.zeros_like(y) if y.grad is None else y.grad,
        "grad_latents": torch.zeros_like(y) if y.grad is None else y.grad,
    }
    if layer.is_duplex:
        ours |= clustered(layer, x, grid, None, assignments)
        ours["centroids_updated"] = assignments @ ours["from_elements"]
    return detached(ours)


def clustered(
    layer: BipartiteAttention, x: Tensor, grid: Tensor, carried: Tensor | None, after: Tensor
) -> Outputs:
    """What a duplex layer compares, and the outcome."""
    content = layer.queries(x)
    place = layer.grid_map(grid).expand_as(content)
    elements = layer.split(torch.cat([content, place], dim=-1))
    start = layer.start(elements, content + place, carried).expand(len(x), -1, -1, -1)
    return {"from_elements": elements, "centroids_initial": start, "assignments": after}


@torch.no_grad()
def iterative(case: Case) -> Outputs:
    given, ctor, ours, carried = case.inputs, case.config["ctor"], {}, None
    for i in range(sum(re.fullmatch(r"x\d+", name) is not None for name in given)):
        x, grid = given[f"x{i}"], given[f"grid_pos{i}"].flatten(0, 1)
        weights, positions = under(case.weights, f"layer{i}."), given.get("latent_pos")
        layer = attention_layer(ctor, weights, len(grid), positions is not None, i == 0)
        out, seen, assignments = layer(x, given["latents"], grid, positions, carried=carried)
        part = clustered(layer, x, grid, carried, assignments)
        part |= {"x": out, "attention": maps(seen, given[f"grid_pos{i}"].shape[:2])}
        ours |= {f"{name}{i}": value for name, value in part.items()}
        carried = assignments
    return ours


def maps(seen: Tensor, sides: tuple[int, int]) -> Tensor:
    """Attention (N, A, T, k) as the reference shows it: (N * A, k, H, W)."""
    return seen.flatten(0, 1).mT.unflatten(-1, tuple(sides))


def positional_encoding(case: Case) -> Outputs:
    ours = {}
    for name in case.outputs:
        match = re.fullmatch(r"sinus(?:_dirs(\d+))?_(\d+)_(\d+)", name)
        if match:
            directions, side, width = int(match[1] or 2), int(match[2]), int(match[3])
            ours[name] = direction_table(width, side, directions).view(side, side, width)
    return ours


@torch.no_grad()
def mapping(case: Case) -> Outputs:
    ctor, given = case.config["ctor"], case.inputs
    config, num_classes = gansformer_config(ctor), ctor.get("c_dim", 0)
    updates = {"updates": torch.tensor(reference.MANY_UPDATES)}
    network = reference.load(
        lambda: make_mapping(config, num_classes),
        case.weights | updates,
        lambda key: reference.rename_by(reference.MAPPING, key),
        config,
    )
    assert isinstance(network, Mapping)
    positions = given["pos"] if config.component_positions else None
    assert given["mask"].all(), "components are all there"
    w = network(given["z"], labels_of(given), positions)
    rows = w[:, :, None]
    ours = {"w": w, "w_train": w}
    for name in case.outputs:
        if match := re.fullmatch(r"w_psi(\d)(\d*)", name):
            ours[name] = network.truncate(rows, float(f"{match[1]}.{match[2]}"))[:, :, 0]
    network.track(rows)
    return ours | {"w_avg_after": network.mean}


def labels_of(given: Outputs) -> Tensor:
    """Class indices of one-hot rows; zeros where there are no classes."""
    count = next(iter(given.values())).shape[0]
    return given["c"].argmax(dim=1) if "c" in given else torch.zeros(count, dtype=torch.int64)


def modulated_conv(case: Case) -> Outputs:
    given = case.inputs
    x, weight, narrow, style = (given[k] for k in ("x", "weight", "weight_1x1", "styles"))
    up = modulated_convolve(x, weight, style, "up")
    return {
        "same": modulated_convolve(x, weight, style),
        "up": up,
        "up_unfused": up,
        "rgb": modulated_convolve(x, narrow, style, demodulate=False),
        "down_conv": resample.convolve(x, weight, "down"),
        "down_1x1": resample.convolve(x, narrow, "down"),
        "up_1x1": resample.convolve(x, narrow, "up"),
        "upsample": resample.upsample(x),
        "downsample": resample.downsample(x),
    }


def attending(ctor: dict[str, Any]) -> GANsformerConfig:
    """The settings of a part of a generator, which has attention where its arguments say so."""
    return gansformer_config(ctor if ctor.get("transformer") else ctor | {"k": 1})


def noise_of(layer: SynthesisLayer, mode: str) -> Tensor:
    return layer.noise[None, None] * (mode == "const")


@torch.no_grad()
def synthesis_layer(case: Case) -> Outputs:
    ctor, given = case.config["ctor"], case.inputs
    side, up = ctor["out_resolution"], ctor.get("up", 1) == 2
    config = attending(ctor)

    def build() -> SynthesisLayer:
        return SynthesisLayer(config, ctor["in_channels"], ctor["out_channels"], side, up, True)

    names = lambda key: reference.rename_by(reference.LAYER, key)  # noqa: E731
    layer = reference.load(build, case.weights, names, config)
    assert isinstance(layer, SynthesisLayer)
    noise = noise_of(layer, case.config.get("noise_mode", "const"))
    x, seen, _ = layer(given["x"], given["w"], given.get("latent_pos"), noise, None, None)
    return {"x": x} | ({} if seen is None else {"attention": maps(seen, (side, side))})


@torch.no_grad()
def synthesis_block(case: Case) -> Outputs:
    ctor, given = case.config["ctor"], case.inputs
    side, inputs = ctor["resolution"], ctor["in_channels"]
    config = attending(ctor)

    def build() -> SynthesisBlock:
        return SynthesisBlock(
            config, inputs, ctor["out_channels"], side, ctor["img_channels"], ctor["is_last"], True
        )

    weights = {key: value for key, value in case.weights.items() if key != "const"}
    block = reference.load(
        build, weights, lambda key: reference.rename_block(key, is_first=inputs == 0), config
    )
    assert isinstance(block, SynthesisBlock)
    w = given["ws"]
    x = given["x"] if inputs else case.weights["const"].expand(len(w), -1, -1, -1)
    noise = [noise_of(layer, case.config.get("noise_mode", "const")) for layer in block.layers]
    positions, keep = given.get("latent_pos"), [None] * len(noise)
    x, image, seen, _ = block(x, given.get("img"), w, positions, noise, keep)
    ours = {f"attention{i}": maps(one, (side, side)) for i, one in enumerate(seen)}
    return ours | {"x": x} | ({} if image is None else {"img": image})


@torch.no_grad()
def generator(case: Case) -> Outputs:
    network = load_reference("gansformer", "generator", case.config["ctor"], case.weights)
    assert isinstance(network, GANsformerGenerator)
    labels = labels_of(case.inputs)
    w = network.map(case.inputs["z"], labels)
    silence = [torch.zeros_like(noise) for noise in network.constant_noise()]
    ours = {
        "img": network.synthesize(w)[:, 0],
        "img_no_noise": network.synthesize(w, silence)[:, 0],
        "ws": w[:, :, 0],
    }
    for name in case.outputs:
        if match := re.fullmatch(r"img_psi(\d)(\d*)", name):
            psi = float(f"{match[1]}.{match[2]}")
            ours[name] = network.synthesize(network.truncate(w, labels, psi))[:, 0]
    if network.z_shape[0] > 1:
        ours["attention"] = network.attention_maps(w)
    return ours


def discriminator(case: Case) -> Outputs:
    network = load_reference("gansformer", "discriminator", case.config["ctor"], case.weights)
    x = case.inputs["x"].requires_grad_()
    logits = network(x[:, None], labels_of(case.inputs)).logits
    slope = exact(logits, x)
    (grad,) = torch.autograd.grad(logits.sum(), x, retain_graph=True)
    ours = {"logits": logits, "grad_x": grad, "r1": slope}
    ours["softplus_real"] = logistic_generator(logits)[:, None]
    both = logistic_discriminator(logits, logits)[:, None]
    ours["softplus_fake"] = both - ours["softplus_real"]
    for name in case.outputs:
        if match := re.fullmatch(r"loss_r1_gamma(\d+)", name):
            ours[name] = int(match[1]) / 2 * slope
    return detached(ours)


def detached(outputs: Outputs) -> Outputs:
    return {name: value.detach() for name, value in outputs.items()}


HANDLERS: dict[str, Callable[[Case], Outputs]] = {
    "attention": attention,
    "attention_duplex_iterative": iterative,
    "positional_encoding": positional_encoding,
    "mapping": mapping,
    "modulated_conv": modulated_conv,
    "synthesis_layer": synthesis_layer,
    "synthesis_block": synthesis_block,
    "generator": generator,
    "discriminator": discriminator,
}
