"""Weights of other implementations: their names in ours, and a network of ours from them.

One table per system and network maps whole reference keys to ours. Parity tests and conversion use
the same tables.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scalegan.errors import CheckpointError, ConfigError
from scalegan.models.gat import GATDiscriminator, GATGenerator
from scalegan.runtime.foreign import read_tensors
from scalegan.settings import AutoencoderConfig, GATConfig
from scalegan.snapshot import Card, save

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
    ours = gat_config(sizes)
    shape = (sizes["in_channels"], sizes["input_size"], sizes["input_size"])
    if role == "generator":
        return GATGenerator(ours, shape, sizes["num_classes"])
    return GATDiscriminator(ours, shape, sizes["num_classes"], sizes["z_dim"])


def gat_config(sizes: dict[str, Any]) -> GATConfig:
    """Sizes under the reference's names as our config."""
    sizes = GAT_DEFAULTS | sizes
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


SYSTEMS = {
    "gat": System(
        {"generator": GAT_GENERATOR, "discriminator": GAT_DISCRIMINATOR},
        build_gat,
        {"generator": {"style_updates": MANY_UPDATES}},
    ),
}


def convert(
    source: Path, out: Path, class_names: Path | None = None, is_trusted: bool = False
) -> list[str]:
    """Turn a foreign checkpoint into a snapshot.

    Sizes are read off the tensors' shapes. The averaged generator is taken where there is one.

    Args:
        source: .safetensors, or a pickle of the official code (opened in a child process only).
        out: the snapshot's folder; must not exist.
        class_names: a text file with one name a line; numbers if not given.
        is_trusted: open a pickle that weights-only loading refuses, in the child process.

    Returns:
        Lines on what was read and written.

    Raises:
        CheckpointError: if the file is not what it should be, or `out` exists.
    """
    if out.exists():
        raise CheckpointError(f"`{out}` exists already", "choose another folder")
    tensors = read_tensors(source, is_trusted)
    parts = split_networks(tensors)
    if "generator" not in parts:
        raise CheckpointError(f"`{source}` holds no generator in the official code's key names")
    networks, lines = {}, []
    for role, weights in parts.items():
        networks[role] = load_reference("gat", role, infer_gat(role, weights), weights)
        lines.append(f"{role}: {len(weights)} tensors of `{source}`")
    config = infer_gat("generator", parts["generator"])
    names = [str(index) for index in range(config["num_classes"])]
    if class_names:
        names = class_names.read_text(encoding="utf-8").splitlines()
        if len(names) != config["num_classes"]:
            raise CheckpointError(
                f"`{class_names}` has {len(names)} lines; the model has {config['num_classes']} "
                "classes"
            )
    card = Card(
        name=source.stem,
        model=gat_config(config),
        autoencoder=AutoencoderConfig(),
        shape=(config["in_channels"], config["input_size"], config["input_size"]),
        class_names=names,
        features=infer_gat("discriminator", parts["discriminator"])["z_dim"]
        if "discriminator" in parts
        else 0,
        step=int(tensors.get("steps", torch.tensor(0))),
    )
    save(out, card, networks["generator"], networks.get("discriminator"))
    return [*lines, f"snapshot: `{out}`; next: scalegan info {out}"]


def split_networks(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights by role, from keys such as `ema.blocks.0...`, or from one bare network's keys."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        first, _, rest = key.removeprefix("weights.").partition(".")
        if first in ("ema", "generator", "discriminator"):
            parts.setdefault(first, {})[rest.removeprefix("module.")] = value
    if not parts and "pos_embed" in tensors:
        parts["discriminator" if "cls_token" in tensors else "generator"] = tensors
    if "ema" in parts:
        parts["generator"] = parts.pop("ema")
    return parts


def infer_gat(role: str, weights: dict[str, Tensor]) -> dict[str, Any]:
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
