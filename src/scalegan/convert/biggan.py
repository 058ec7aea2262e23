"""BigGAN's networks from weights of the authorised PyTorch port, and of the released hub files.

Sources: keys, sizes and defaults of the port of arXiv 1809.11096; the hub's BigGAN-deep generators
(128, 256, 512), whose config.json names their layers. What differs there is folded into weights.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.config.models import BigGANConfig
from scalegan.convert.renaming import Sizes, Weights, indices
from scalegan.errors import CheckpointError, ConfigError
from scalegan.models.biggan import (
    DISCRIMINATOR_WIDTHS,
    GENERATOR_WIDTHS,
    BigGANDiscriminator,
    BigGANGenerator,
    Layer,
)
from scalegan.runtime.weights import build_exactly

# Parts of a dotted name, theirs and ours; what is not here has the same name.
PARTS = {
    "theta": "query",
    "phi": "key",
    "g": "value",
    "o": "out",
    "conv_sc": "shortcut",
    "stored_mean": "mean",
    "stored_var": "variance",
} | {f"bn{i}": f"norm{i}" for i in range(1, 5)}
FIRST = {
    "generator": {"linear": "stem", "output_layer.0": "norm", "output_layer.2": "head"},
    "discriminator": {"linear": "head", "embed": "classes", "input_conv": "stem"},
}
HUB_FIRST = {"generator.gen_z": "stem", "generator.bn": "norm", "generator.conv_to_rgb": "head"}
HUB_PARTS = {
    "scale": "gain",
    "offset": "bias",
    "running_means": "mean",
    "running_vars": "variance",
    "snconv1x1_theta": "query",
    "snconv1x1_phi": "key",
    "snconv1x1_g": "value",
    "snconv1x1_o_conv": "out",
}
HUB_PARTS |= {f"bn_{i}": f"norm{i + 1}" for i in range(4)}
HUB_PARTS |= {f"conv_{i}": f"conv{i + 1}" for i in range(4)}


def rename(role: str, key: str, model: BigGANConfig) -> tuple[str, int | None]:
    """Our name of a port's tensor, and for spectral norm's buffers which of their rows it is."""
    key = _with_first(key, FIRST[role])
    depth = model.blocks_per_stage if model.is_deep and role == "discriminator" else 1
    if match := re.match(r"blocks\.(\d+)\.(\d+)\.", key):
        stage, place = int(match[1]), int(match[2])
        is_attention = place == depth  # it comes after the blocks of its stage
        block = stage * depth + min(place, depth - 1)
        key = f"blocks.{block}.{'attention.' if is_attention else ''}{key[match.end() :]}"
    row = None
    if match := re.fullmatch(r"(.*)\b(u|sv)(\d+)", key):
        key, row = f"{match[1]}normal.{'u' if match[2] == 'u' else 'sigma'}", int(match[3])
    return ".".join(PARTS.get(part, part) for part in key.split(".")), row


def renamed(role: str, model: BigGANConfig, weights: Weights) -> Weights:
    """The port's tensors under our names."""
    found: Weights = {}
    for key in sorted(weights):  # rows of spectral norm's buffers come in order
        name, row = rename(role, key, model)
        found[name] = torch.cat([found[name], weights[key]]) if row else weights[key]
    return found


def network(role: str, model: BigGANConfig, sizes: Sizes, weights: Weights) -> nn.Module:
    """A network in evaluation mode, of our config and the port's weights.

    Raises:
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    kind = BigGANGenerator if role == "generator" else BigGANDiscriminator
    make = partial(kind, model, sizes.shape, sizes.num_classes)
    keys = {rename(role, key, model)[0]: key for key in weights}
    return build_exactly(make, renamed(role, model, weights), f"the biggan {role}", keys)


def sizes_of(parts: dict[str, Weights]) -> Sizes:
    """All sizes of the networks but the epsilons, which are those of the authors' scripts."""
    weights = parts["generator"]
    rows, first = weights["linear.weight"].shape
    num_blocks = len(indices(weights, r"blocks\.(\d+)\."))
    is_deep = "blocks.0.0.conv3.weight" in weights
    depth = 2 if is_deep else 1
    side = 4 * 2 ** (num_blocks // depth)
    gain = weights["blocks.0.0.bn1.gain.weight"]
    if "shared.weight" in weights:
        num_classes, shared = weights["shared.weight"].shape
    else:  # a table of gains per class
        num_classes, shared = len(gain), 0
    part = gain.shape[1] - shared if shared else 0
    attended = indices(weights, r"blocks\.(\d+)\.1\.theta")
    model: dict[str, Any] = {
        "is_deep": is_deep,
        "channels": rows // 16 // GENERATOR_WIDTHS[side][0],
        "z_width": part if is_deep else first * (num_blocks + 1 if part else 1),
        "shared_width": shared,
        "is_hierarchical": part > 0,
        "generator_attention": [8 * 2 ** (block // depth) for block in attended],
        "has_spectral_norm": "linear.u0" in weights,
        "num_singular_values": len(indices(weights, r"linear\.u(\d+)$")) or 1,
    }
    channels = len(weights["output_layer.2.weight"])
    if "discriminator" in parts:
        weights = parts["discriminator"]
        num_halvings = DISCRIMINATOR_WIDTHS[side][1]
        attended = indices(weights, r"blocks\.(\d+)\.\d+\.theta")
        sides = [side >> min(stage + 1, num_halvings) for stage in attended]
        hidden, outputs = weights["blocks.1.0.conv1.weight"], weights["blocks.1.0.conv2.weight"]
        model |= {
            "discriminator_attention": list(dict.fromkeys(sides)),
            "is_wide": is_deep or len(hidden) == len(outputs),
        }
    assumed = ("norm_eps", "spectral_eps", *(["blocks_per_stage"] if is_deep else []))
    return Sizes(model, (channels, side, side), num_classes, assumed=assumed)


def hub_generator(config: Mapping[str, Any], weights: Weights) -> nn.Module:
    """The hub's BigGAN-deep generator with the batch statistics of no truncation, its last rows.

    Weights hold their quotients by the stored singular values, so the network has no spectral norm
    of its own; `calibrate` serves truncations.

    Raises:
        ConfigError: if a setting is missing or not one we can build.
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    model, layers = hub_config(config)
    side, num_classes = config["output_dim"], config["num_classes"]
    weights = dict(weights)
    try:
        # A linear map of one-hot classes is an embedding.
        found = {"shared.weight": weights.pop("embeddings.weight").T}
        for key in [key for key in weights if key.endswith(".weight_orig")]:
            stem = key.removesuffix("_orig")
            matrix = weights.pop(key)
            left, right = weights.pop(f"{stem}_u"), weights.pop(f"{stem}_v")
            weights[stem] = matrix / (left @ (matrix.flatten(1) @ right))
        for key in [key for key in weights if key.endswith((".running_means", ".running_vars"))]:
            weights[key] = weights[key][-1]
        found |= {_hub_name(key, config): value for key, value in weights.items()}
        found["stem.weight"] = _to_channels_first(found["stem.weight"])
        found["stem.bias"] = _to_channels_first(found["stem.bias"])
        # Three of the channels it makes are looked at.
        found |= {f"head.{part}": found[f"head.{part}"][:3] for part in ("weight", "bias")}
        found["norm.variance"] = found["norm.variance"] + (model.norm_eps - 1e-5)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"the tensors are not those of a hub generator: {error}") from None
    for name, value in found.items():
        if name == "stem.weight" or ".gain." in name or ".bias.weight" in name:
            z, classes = value[:, : model.z_width], value[:, model.z_width :]
            found[name] = torch.cat([classes, z], dim=1)  # theirs: noise first
        if name.endswith(".gamma"):
            found[name] = value.reshape(())
    return build_exactly(
        lambda: BigGANGenerator(model, (3, side, side), num_classes, layers),
        found,
        "the hub's biggan generator",
    )


HUB_NUMBERS = ("channel_width", "attention_layer_position", "output_dim", "num_classes")


def hub_config(config: Mapping[str, Any]) -> tuple[BigGANConfig, list[Layer]]:
    """The hub's settings as ours, and the blocks they list.

    Raises:
        ConfigError: if one is missing.
    """
    try:
        unit, place, *_ = [config[name] for name in HUB_NUMBERS]
        layers = [
            Layer(unit * inputs, unit * outputs, bool(is_up), attends=i == place - 1)
            for i, (is_up, inputs, outputs) in enumerate(config["layers"])
        ]
        attended = 4 * 2 ** sum(layer.resizes for layer in layers[:place])
        return BigGANConfig(
            is_deep=True,
            channels=unit,
            z_width=config["z_dim"],
            shared_width=config["class_embed_dim"],
            generator_attention=(attended,),
            norm_eps=config["eps"],
            spectral_eps=config["eps"],
            has_spectral_norm=False,
        ), layers
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"this is not the config of a hub generator: {error!r}") from None


def _hub_name(key: str, config: Mapping[str, Any]) -> str:
    """Our name of a hub generator's tensor."""
    place = config["attention_layer_position"]
    key = _with_first(key, HUB_FIRST)
    if match := re.match(r"generator\.layers\.(\d+)\.", key):
        index = int(match[1])
        block = f"blocks.{index - (index >= place)}."
        key = block + ("attention." if index == place else "") + key[match.end() :]
    key = "norm.gain" if key == "norm.weight" else key
    return ".".join(HUB_PARTS.get(part, part) for part in key.split("."))


def _with_first(key: str, names: dict[str, str]) -> str:
    """A key whose beginning is one of these, with our name of it."""
    for theirs, ours in names.items():
        if key.startswith(f"{theirs}."):
            return ours + key[len(theirs) :]
    return key


def _to_channels_first(rows: Tensor) -> Tensor:
    """Outputs of the first layer, theirs ordered by row, column and channel of the 4x4 map."""
    return rows.unflatten(0, (16, -1)).transpose(0, 1).flatten(0, 1)
