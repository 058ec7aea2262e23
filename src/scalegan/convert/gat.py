"""Weights of GAT's official code: their names in ours, and networks of ours from them."""

import math
from typing import Any

import torch
from torch import nn

from scalegan.config.models import DISCRIMINATOR_NUMBERS, GATConfig, Size
from scalegan.convert.renaming import Names, Sizes, Weights, fill, indices
from scalegan.models.gat import GATDiscriminator, GATGenerator

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

MANY_UPDATES = 1e9
"""The reference keeps no count of the updates of its class means: take them as they are."""


def network(role: str, model: GATConfig, sizes: Sizes, weights: Weights) -> nn.Module:
    """A network in evaluation mode, of our config and the official code's weights.

    Raises:
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    shape, num_classes = sizes.shape, sizes.num_classes

    def make() -> nn.Module:
        if role == "generator":
            return GATGenerator(model, shape, num_classes)
        return GATDiscriminator(model, shape, num_classes, sizes.features)

    extra: Weights = {}
    if "w_avg" in weights:
        extra = {"style_updates": torch.full((len(weights["w_avg"]),), MANY_UPDATES)}
    return fill(make, NAMES[role], weights, f"gat {role}", extra)


def sizes_of(parts: dict[str, Weights]) -> Sizes:
    """All sizes of the networks; without a discriminator its own are the published ones."""
    weights = parts["generator"]
    size = _size_of(weights)
    width, channels, patch, _ = weights["x_embedder.proj.weight"].shape
    num_classes, z_width = weights["y_embedder.embedding_table.weight"].shape
    hidden = weights["blocks.0.mlp.w3.weight"].shape[1]
    side = math.isqrt(weights["pos_embed"].shape[1]) * patch
    model: dict[str, Any] = {
        **size._asdict(),
        "patch_size": patch,
        # floor(2/3 * ratio * width) is the hidden width; half a unit keeps clear of rounding.
        "mlp_ratio": 4.0 if 8 * width // 3 == hidden else 1.5 * (hidden + 0.5) / width,
        "z_width": z_width,
    }
    features = 0
    if "discriminator" in parts:
        weights = parts["discriminator"]
        if _size_of(weights) != size:
            model |= dict(zip(DISCRIMINATOR_NUMBERS, _size_of(weights), strict=True))
        model["label_width"] = weights["y_embedder.embedding_table.weight"].shape[1]
        model["projector_width"] = 1
        if "proj.4.weight" in weights:
            features, model["projector_width"] = weights["proj.4.weight"].shape
    return Sizes(model, (channels, side, side), num_classes, features)


def _size_of(weights: Weights) -> Size:
    """Width, depth and heads of either network."""
    width = len(weights["x_embedder.proj.weight"])
    depth = len(indices(weights, r"blocks\.(\d+)\."))
    return Size(width, depth, width // len(weights["blocks.0.attn.q_norm.weight"]))
