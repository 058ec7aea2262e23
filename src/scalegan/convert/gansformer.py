"""Weights of GANsformer's authors: their names in ours, and networks of ours from them."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.config.models import GANsformerConfig
from scalegan.convert.renaming import Sizes, Weights, indices
from scalegan.errors import CheckpointError
from scalegan.layers.bipartite import direction_table
from scalegan.models.gansformer import GANsformerDiscriminator, GANsformerGenerator
from scalegan.runtime.weights import build_exactly

Rules = list[tuple[str, str]]
"""Regular expressions and what becomes of what they match, applied one after the other."""

MANY_UPDATES = 1e9
"""The reference keeps no count of the updates of its mean: take it as it is."""

ATTENTION: Rules = [
    (r"\bto_queries\b", "queries"),
    (r"\bto_keys\b", "keys"),
    (r"\bto_values\b", "values"),
    (r"\bfrom_pos_map\b", "grid_map"),
    (r"\bto_pos_map\b", "position_map"),
    (r"\batt_weight\b", "element_weight"),
    (r"\bqueries2centroids\b", "first_centroids"),
    (r"\bto_gate_attention\.gate_pos\b", "component_gate.position"),
    (r"\bto_gate_attention\.gate\b", "component_gate.content"),
    (r"\bfrom_gate_attention\.gate_pos\b", "pixel_gate.position"),
    (r"\bfrom_gate_attention\.gate\b", "pixel_gate.content"),
]
MAPPING: Rules = [
    *ATTENTION,
    (r"^global_mlp\.", "for_global."),
    (r"^mlp\.", "for_components."),
    (r"\.l(\d+)\.fc1\.", r".second.\1."),
    (r"\.l(\d+)(\.fc0)?\.", r".first.\1."),
    (r"\.sa(\d+)\.", r".attention.\1."),
    (r"\.out_layer\.", ".out."),
    (r"^embed\.", "labels."),
    (r"^w_avg$", "mean"),
]
LAYER: Rules = [
    *ATTENTION,
    (r"^transformer\.", "attention."),
    (r"^biasAct\.bias$", "bias"),
    (r"^noise_const$", "noise"),
    (r"^(weight|affine\.\w+)$", r"conv.\1"),
]
# What has no effect in the reference, or only under another config, and is left out of ours.
DEAD = re.compile(r".*\b(keys|grid_map|position_map|first_centroids|affine|positions)\b.*")


def load(
    build: Callable[[], nn.Module],
    weights: Weights,
    rename: Callable[[str], str],
    config: GANsformerConfig,
    what: str = "the gansformer network",
) -> nn.Module:
    """Build a network from a reference's weights, without those that have no effect there.

    Raises:
        CheckpointError: if a tensor is missing, unknown or of the wrong shape, or a constant of
            the reference is not the one that we compute.
    """
    with torch.device("meta"):
        expected = build().state_dict()
    found, keys = {}, {}
    for key, value in weights.items():
        if is_constant(key, value, config):
            continue
        name = rename(key)
        if name in expected or not DEAD.fullmatch(name):
            found[name], keys[name] = value, key
    return build_exactly(build, found, what, keys)


def network(role: str, model: GANsformerConfig, sizes: Sizes, weights: Weights) -> nn.Module:
    """A network in evaluation mode, of our config and the authors' weights; errors as of `load`."""
    what, shape, num_classes = f"the gansformer {role}", sizes.shape, sizes.num_classes
    if role == "generator":
        weights = weights | {"mapping.updates": torch.tensor(MANY_UPDATES)}
        make = partial(GANsformerGenerator, model, shape, num_classes)
        return load(make, weights, rename_generator, model, what)
    other = partial(GANsformerDiscriminator, model, shape, num_classes)
    return load(other, weights, lambda key: rename_discriminator(key, shape[1]), model, what)


HIDDEN = (
    "integration",
    "norm",
    "is_styled",
    "clusterings",
    "carries_assignments",
    "component_positions",
)
"""Fields that no tensor shows and that differ between the published models."""


def sizes_of(parts: dict[str, Weights]) -> Sizes:
    """The sizes of the networks that tensors show."""
    weights = parts["generator"]
    synthesis = indices(weights, r"synthesis\.b(\d+)\.")
    attended = indices(weights, r"synthesis\.b(\d+)\.\w+\.transformer\.")
    to_images = indices(weights, r"synthesis\.b(\d+)\.torgb\.")
    has_components = any(key.startswith("mapping.mlp.") for key in weights)
    branch = "mapping.mlp" if has_components else "mapping.global_mlp"
    depth = len(indices(weights, re.escape(branch) + r"\.l(\d+)\."))
    is_residual = f"{branch}.l0.fc0.weight" in weights
    side = synthesis[-1]
    latent = len(weights["mapping.w_avg"])
    z_width = weights[f"{branch}.l0{'.fc0' if is_residual else ''}.weight"].shape[1]
    num_classes = 0
    if "mapping.embed.weight" in weights:
        z_width, num_classes = weights["mapping.embed.weight"].shape
    widths = {at: len(weights[f"synthesis.b{at}.conv1.weight"]) for at in synthesis}
    model: dict[str, Any] = {
        "num_components": len(weights["pos"]) if has_components else 0,
        "latent_width": latent,
        "z_width": 0 if z_width == latent else z_width,
        # Any pair that gives these widths gives the same network.
        "channel_base": widths[side] * side,
        "channel_max": max(widths.values()),
        "mapping": "residual" if is_residual else "plain",
        "mapping_depth": depth * 2 if is_residual else depth,
        "component_attention": any(f"{branch}.sa" in key for key in weights),
        "synthesis": _architecture(weights, r".*\.skip\.", len(to_images)),
    }
    assumed = ["mapping_heads"] if model["component_attention"] else []
    if attended:
        element_weight = weights.get(f"synthesis.b{attended[0]}.conv1.transformer.att_weight")
        model |= {
            "attention": "simplex" if element_weight is None else "duplex",
            "min_attention_side": attended[0],
            "max_attention_side": attended[-1],
            "component_gate": any("to_gate_attention" in key for key in weights),
            "pixel_gate": any("from_gate_attention" in key for key in weights),
        }
        assumed.append("grid_directions")
        if element_weight is None:
            assumed.append("num_heads")
        else:
            model["num_heads"] = len(element_weight)
    channels = len(weights[f"synthesis.b{side}.torgb.weight"])
    if "discriminator" in parts:
        weights = parts["discriminator"]
        number = len(indices(weights, r"b(\d+)\.fromrgb\."))
        model["discriminator"] = _architecture(weights, r"b\d+\.skip\.", number)
        assumed.append("deviation_group")
    shape = (channels, side, side)
    return Sizes(model, shape, num_classes, missing=HIDDEN, assumed=tuple(assumed))


def _architecture(weights: Weights, skip: str, num_images: int) -> str:
    if any(re.match(skip, key) for key in weights):
        return "residual"
    return "skip" if num_images > 1 else "plain"


def is_constant(key: str, value: Tensor, config: GANsformerConfig) -> bool:
    """Whether a tensor is one that we compute ourselves.

    Raises:
        CheckpointError: if it is, but with other values than ours.
    """
    if key.endswith("resample_kernel"):
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        ours = torch.outer(row, row)
    elif key.endswith("grid_pos"):
        ours = direction_table(value.shape[-1], value.shape[0], config.grid_directions)
        ours = ours.view(value.shape[0], value.shape[0], -1)
    else:
        return False
    if ours.shape != value.shape or not torch.allclose(ours, value, atol=1e-5):
        raise CheckpointError(f"`{key}` is not the constant that we compute")
    return True


def rename_by(rules: Rules, key: str) -> str:
    for pattern, ours in rules:
        key = re.sub(pattern, ours, key)
    return key


def rename_generator(key: str) -> str:
    """Our name of a generator's tensor; what is in neither network is left as it is."""
    if match := re.fullmatch(r"mapping\.(.*)", key):
        return f"mapping.{rename_by(MAPPING, match[1])}"
    if match := re.fullmatch(r"synthesis\.b(\d+)\.(.*)", key):
        side, rest = int(match[1]), match[2]
        if rest == "const":
            return "constant"
        return f"blocks.{side.bit_length() - 3}.{rename_block(rest, is_first=side == 4)}"
    return "positions" if key == "pos" else key


def rename_block(key: str, is_first: bool) -> str:
    """Our name of a synthesis block's tensor; the first block lacks the up-sampling layer."""
    if match := re.fullmatch(r"conv([01])\.(.*)", key):
        return f"layers.{int(match[1]) - is_first}.{rename_by(LAYER, match[2])}"
    rules = [(r"^conv_last\.", "last."), (r"^torgb\.(biasAct\.)?", "to_image.")]
    return rename_by(rules, key)


def rename_discriminator(key: str, side: int) -> str:
    """Our name of a tensor of a discriminator of images of this side."""
    key = key.replace("biasAct.", "")
    if match := re.fullmatch(r"b(\d+)\.(.*)", key):
        index, rest = side.bit_length() - int(match[1]).bit_length(), match[2]
        if rest.startswith("fromrgb."):
            return rest.replace("fromrgb", f"from_image.{index}")
        if match[1] == "4":
            return re.sub(r"^fc\b", "hidden", rest)
        return f"blocks.{index}.{rest.replace('conv0', 'first').replace('conv1', 'second')}"
    return key
