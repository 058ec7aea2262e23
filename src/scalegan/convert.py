"""Weights of other implementations: their names in ours, and a network of ours from them.

One table per system and network maps whole reference keys to ours. Parity tests and conversion use
the same tables.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scalegan.errors import CheckpointError, ConfigError
from scalegan.models.gat import GATDiscriminator, GATGenerator
from scalegan.settings import GATConfig

# A regular expression for a whole reference key, and ours; None = a tensor we have no use for.
Names = list[tuple[str, str | None]]

GAT_BLOCK: Names = [
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
GAT_GENERATOR: Names = [
    *GAT_BLOCK,
    (r"(blocks\.\d+)\.adaLN_modulation\.1\.(weight|bias)", r"\1.modulation.\2"),
    (r"final_layers\.(\d+)\.adaLN_modulation\.1\.(weight|bias)", r"heads.\1.modulation.\2"),
    (r"final_layers\.(\d+)\.linear\.(weight|bias)", r"heads.\1.linear.\2"),
    (r"latent_embedder\.([02])\.(weight|bias)", r"mapping.\1.\2"),
    (r"w_avg", r"style_mean"),
    (r"x_embedder\.proj\.(weight|bias)", None),  # embeds an input that is multiplied by zero (G1)
]
GAT_DISCRIMINATOR: Names = [
    *GAT_BLOCK,
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

# The reference's names of the settings, and their values in the published B/2.
GAT_DEFAULTS: dict[str, Any] = {
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


class System(NamedTuple):
    """How one foreign implementation is read: names by role, and the networks."""

    names: dict[str, Names]
    build: Callable[[str, dict[str, Any]], nn.Module]
    fill: dict[str, dict[str, float]]
    """By role, tensors of ours that the reference lacks, and what they are filled with."""


def load_reference(
    system: str, role: str, config: dict[str, Any], weights: dict[str, Tensor]
) -> nn.Module:
    """Build one of our networks from the weights of a reference implementation.

    Args:
        system: whose weights: "gat".
        role: "generator" or "discriminator".
        config: sizes under the reference's names; those of the published B/2 where absent.
        weights: every tensor of the network, under the reference's keys.

    Returns:
        The network, in evaluation mode.

    Raises:
        ConfigError: if the system, the role or a size is not one we can build.
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    names_of(system, role)
    with torch.device("meta"):  # a config that does not fit its weights allocates nothing
        expected = SYSTEMS[system].build(role, config).state_dict()
    found, keys = {}, {}
    for key, value in weights.items():
        name = rename(system, role, key)
        if name is not None and name not in expected:
            raise CheckpointError(f"`{key}` does not belong to a {system} {role} of this config")
        if name is not None:
            found[name], keys[name] = value, key
    for name, number in SYSTEMS[system].fill.get(role, {}).items():
        found[name] = torch.tensor(number).expand(expected[name].shape)
    for name, ours in expected.items():
        if name not in found:
            raise CheckpointError(f"no tensor of the weights becomes `{name}` of the {role}")
        if found[name].shape != ours.shape:
            raise CheckpointError(
                f"`{keys[name]}` has shape {tuple(found[name].shape)} but this config asks for "
                f"{tuple(ours.shape)}"
            )
        if not found[name].is_floating_point():
            raise CheckpointError(f"`{keys[name]}` is {found[name].dtype} but must be a float")
    network = SYSTEMS[system].build(role, config)
    network.load_state_dict(found)
    return network.eval()


def rename(system: str, role: str, key: str) -> str | None:
    """Our name of a reference's tensor; None for one that we have no use for.

    Raises:
        ConfigError: if the system or the role is unknown.
        CheckpointError: if the reference has no such tensor.
    """
    for pattern, ours in names_of(system, role):
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(ours) if ours else None
    raise CheckpointError(f"`{key}` is not the name of a tensor of a {system} {role}")


def names_of(system: str, role: str) -> Names:
    if system not in SYSTEMS:
        known = ", ".join(f"`{name}`" for name in SYSTEMS)
        raise ConfigError(f"weights of `{system}` cannot be read; known are {known}")
    if role not in SYSTEMS[system].names:
        known = " or ".join(f"`{name}`" for name in SYSTEMS[system].names)
        raise ConfigError(f"`{role}` is not a network of {system}; expected {known}")
    return SYSTEMS[system].names[role]


def build_gat(role: str, config: dict[str, Any]) -> nn.Module:
    sizes = GAT_DEFAULTS | {key: config[key] for key in GAT_DEFAULTS if key in config}
    if sizes.pop("qk_norm") is not True:
        raise ConfigError("`qk_norm` is off but only networks with normalised queries can be read")
    for key, value in sizes.items():
        kinds = (int, float) if key == "mlp_ratio" else (int,)
        least = 0 if key == "z_dim" else 1
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < math.inf:
            kind = "finite number" if key == "mlp_ratio" else "whole number"
            raise ConfigError(f"`{key}` is {value!r} but must be a {kind} of at least {least}")
    ours = GATConfig(
        width=sizes["hidden_size"],
        depth=sizes["depth"],
        num_heads=sizes["num_heads"],
        patch_size=sizes["patch_size"],
        mlp_ratio=float(sizes["mlp_ratio"]),
        z_width=sizes["latent_size"],
        label_width=sizes["cmap_dim"],
        projector_width=sizes["projector_dim"],
    )
    shape = (sizes["in_channels"], sizes["input_size"], sizes["input_size"])
    if role == "generator":
        return GATGenerator(ours, shape, sizes["num_classes"])
    return GATDiscriminator(ours, shape, sizes["num_classes"], sizes["z_dim"])


SYSTEMS = {
    "gat": System(
        {"generator": GAT_GENERATOR, "discriminator": GAT_DISCRIMINATOR},
        build_gat,
        {"generator": {"style_updates": MANY_UPDATES}},
    ),
}
