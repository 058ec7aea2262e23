"""Weights of GAT's official code: their names in ours, and networks of ours from them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.config.models import GATConfig
from scalegan.convert.renaming import Names, Sizes, fill
from scalegan.errors import CheckpointError, ConfigError
from scalegan.models.gat import GATDiscriminator, GATGenerator
from scalegan.runtime.weights import Network

BLOCK: Names = [
    (r"(blocks\.\d+)\.attn\.qkv\.(weight|bias)", r"\1.attention.into.\2"),
    (r"(blocks\.\d+)\.attn\.q_norm\.weight", r"\1.attention.query_norm.weight"),
    (r"(blocks\.\d+)\.attn\.k_norm\.weight", r"\1.attention.key_norm.weight"),
    (r"(blocks\.\d+)\.attn\.proj\.(weight|bias)", r"\1.attention.out.\2"),
    (r"(blocks\.\d+)\.mlp\.w12\.(weight|bias)", r"\1.feedforward.into.\2"),
    (r"(blocks\.\d+)\.mlp\.w3\.(weight|bias)", r"\1.feedforward.out.\2"),
    (r"feat_rope\.freqs_(cos|sin)", None),  # a fixed table, which we compute
    (r"pos_embed", r"position"),
    (r"y_embedder\.embedding_table\.weight", r"labels.weight"),
]
GENERATOR: Names = [
    *BLOCK,
    (r"(blocks\.\d+)\.adaLN_modulation\.1\.(weight|bias)", r"\1.modulation.\2"),
    (r"final_layers\.(\d+)\.adaLN_modulation\.1\.(weight|bias)", r"heads.\1.modulation.\2"),
    (r"final_layers\.(\d+)\.linear\.(weight|bias)", r"heads.\1.linear.\2"),
    (r"latent_embedder\.([02])\.(weight|bias)", r"mapping.\1.\2"),
    (r"w_avg", r"style_mean"),
    (r"x_embedder\.proj\.(weight|bias)", None),  # embeds an input that is multiplied by zero
]
DISCRIMINATOR: Names = [
    *BLOCK,
    (r"(blocks\.\d+)\.ls_attn", r"\1.scale_a"),
    (r"(blocks\.\d+)\.ls_mlp", r"\1.scale_f"),
    (r"(blocks\.\d+)\.norm1\.weight", r"\1.norm_a.weight"),
    (r"(blocks\.\d+)\.norm2\.weight", r"\1.norm_f.weight"),
    (r"cls_token", r"class_token"),
    (r"final_layer\.0\.weight", r"norm.weight"),
    (r"final_layer\.1\.(weight|bias)", r"head.\1"),
    (r"proj\.([024])\.(weight|bias)", r"projector.\1.\2"),
    (r"x_embedder\.proj\.(weight|bias)", r"patches.\1"),
    (r"y_embedder\.latent_embedder\.([02])\.(weight|bias)", r"label_mapping.\1.\2"),
]

NAMES = {"generator": GENERATOR, "discriminator": DISCRIMINATOR}

# The reference's names of the settings, and their values in the published B/2.
DEFAULTS: dict[str, Any] = {
    "in_channels": 4,
    "input_size": 32,
    "patch_size": 2,
    "num_classes": 1000,
    "hidden_size": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4.0,
    "qk_norm": True,
    "latent_size": 64,
    "cmap_dim": 2048,
    "projector_dim": 2048,
    "z_dim": 768,  # of the teacher's features; 0 = no projector
}

# The reference keeps no count of the updates of its class means: take them as they are.
MANY_UPDATES = 1e9


def generator(config: Mapping[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """A generator from the official code's weights.

    Args:
        config: sizes under the reference's names; those of the published B/2 where absent.
        weights: every tensor of the network, under the reference's keys.

    Returns:
        The network, in evaluation mode.

    Raises:
        ConfigError: if a size is not one we can build.
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    return _filled("generator", weights, lambda: build("generator", config))


def discriminator(config: Mapping[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """A discriminator from the official code's weights; see `generator`."""
    return _filled("discriminator", weights, lambda: build("discriminator", config))


def network(
    role: str, model: GATConfig, sizes: Sizes, weights: dict[str, Tensor]
) -> GATGenerator | GATDiscriminator:
    """A network of our config from the official code's weights; errors as of `generator`."""
    shape, num_classes, features = sizes.shape, sizes.num_classes, sizes.features
    if role == "generator":
        return _filled(role, weights, lambda: GATGenerator(model, shape, num_classes))
    return _filled(role, weights, lambda: GATDiscriminator(model, shape, num_classes, features))


def _filled(role: str, weights: dict[str, Tensor], make: Callable[[], Network]) -> Network:
    extra = {}
    if "w_avg" in weights:
        extra = {"style_updates": torch.full((len(weights["w_avg"]),), MANY_UPDATES)}
    return fill(make, NAMES[role], weights, f"gat {role}", extra)


def sizes_of(parts: dict[str, dict[str, Tensor]]) -> Sizes:
    """All sizes of the networks; a discriminator's own are the published ones where there is none.

    Raises:
        CheckpointError: if the tensors are not those of a GAT.
    """
    found = infer("generator", parts["generator"])
    features = 0
    if "discriminator" in parts:
        other = infer("discriminator", parts["discriminator"])
        features = other["z_dim"]
        found |= {name: other[name] for name in ("cmap_dim", "projector_dim")}
    side = found["input_size"]
    shape = found["in_channels"], side, side
    return Sizes(asdict(model_config(found)), shape, found["num_classes"], features)


def build(role: str, config: Mapping[str, Any]) -> nn.Module:
    sizes = DEFAULTS | {key: config[key] for key in DEFAULTS if key in config}
    if sizes.pop("qk_norm") is not True:
        raise ConfigError("`qk_norm` is off but only networks with normalized queries can be read")
    for key, value in sizes.items():
        kinds = (int, float) if key == "mlp_ratio" else (int,)
        least = 0 if key == "z_dim" else 1
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < math.inf:
            kind = "finite number" if key == "mlp_ratio" else "whole number"
            raise ConfigError(f"`{key}` is {value!r} but must be a {kind} of at least {least}")
    ours = model_config(sizes)
    shape = (sizes["in_channels"], sizes["input_size"], sizes["input_size"])
    if role == "generator":
        return GATGenerator(ours, shape, sizes["num_classes"])
    return GATDiscriminator(ours, shape, sizes["num_classes"], sizes["z_dim"])


def model_config(sizes: Mapping[str, Any]) -> GATConfig:
    """Sizes under the reference's names as our config."""
    sizes = DEFAULTS | dict(sizes)
    return GATConfig(
        width=sizes["hidden_size"],
        depth=sizes["depth"],
        num_heads=sizes["num_heads"],
        patch_size=sizes["patch_size"],
        mlp_ratio=float(sizes["mlp_ratio"]),
        z_width=sizes["latent_size"],
        label_width=sizes["cmap_dim"],
        projector_width=sizes["projector_dim"],
    )


def infer(role: str, weights: dict[str, Tensor]) -> dict[str, Any]:
    """The sizes of a reference network, read off its tensors' shapes."""
    try:
        width, patch_inputs, patch, _ = weights["x_embedder.proj.weight"].shape
        num_tokens = weights["pos_embed"].shape[1]
        num_classes, label_width = weights["y_embedder.embedding_table.weight"].shape
        head_width = weights["blocks.0.attn.q_norm.weight"].shape[0]
        hidden = weights["blocks.0.mlp.w3.weight"].shape[1]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"the {role}'s tensors are not those of a GAT: {error}") from None
    depth = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    sizes = {
        "hidden_size": width,
        "patch_size": patch,
        "input_size": math.isqrt(num_tokens) * patch,
        "num_classes": num_classes,
        "num_heads": width // head_width,
        "depth": depth,
        # floor(2/3 * ratio * width) is the hidden width; half a unit keeps clear of rounding.
        "mlp_ratio": 4.0 if 8 * width // 3 == hidden else 1.5 * (hidden + 0.5) / width,
    }
    if role == "generator":
        return sizes | {"in_channels": patch_inputs, "latent_size": label_width}
    has_projector = "proj.4.weight" in weights
    return sizes | {
        "in_channels": patch_inputs // 4,  # four levels, stacked
        "cmap_dim": label_width,
        "projector_dim": weights["proj.0.weight"].shape[0] if has_projector else 1,
        "z_dim": weights["proj.4.weight"].shape[0] if has_projector else 0,
    }
