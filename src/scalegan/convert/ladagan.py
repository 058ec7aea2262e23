"""Weights of LadaGAN's later code: their names in ours, and networks of ours from them."""

import math
from functools import partial
from typing import Any

from torch import nn

from scalegan.config.models import LadaGANConfig
from scalegan.convert.renaming import Names, Sizes, Weights, fill, indices
from scalegan.models.ladagan import LadaGANDiscriminator, LadaGANGenerator

ATTENTION: Names = [
    (r"to_qkv\.(weight|bias)", r"into.\1"),
    (r"q_attn\.(weight|bias)", r"score.\1"),
    (r"to_out\.(weight|bias)", r"out.\1"),
]
NORM: Names = [  # modulated
    (r"h\.0\.(weight|bias)", r"into.\1"),
    (r"mlp_gamma\.(weight|bias)", r"gain.\1"),
    (r"mlp_beta\.(weight|bias)", r"shift.\1"),
]


def within(theirs: str, ours: str, names: Names) -> Names:
    """A part's table, for the part that the reference calls `theirs`, a pattern without groups."""
    return [(rf"{theirs}\.{key}", f"{ours}.{name}") for key, name in names]


BLOCK: Names = [
    *within("attn", "attention", ATTENTION),
    (r"mlp\.([02])\.(weight|bias)", r"feedforward.\1.\2"),
]
GENERATOR_BLOCK: Names = [*BLOCK, *within("ln_1", "norm_a", NORM), *within("ln_2", "norm_f", NORM)]
DISCRIMINATOR_BLOCK: Names = [
    *BLOCK,
    (r"ln_1\.(weight|bias)", r"norm_a.\1"),
    (r"ln_2\.(weight|bias)", r"norm_f.\1"),
]
STAGES = (64, 256, 1024)  # tokens; the reference names what belongs to a stage after them
GENERATOR: Names = [
    (r"init\.0\.weight", r"first.weight"),
    *[(f"pos_{tokens}", f"positions.{i}") for i, tokens in enumerate(STAGES)],
    *[
        name
        for i, tokens in enumerate(STAGES)
        for name in within(f"block_{tokens}", f"blocks.{i}", GENERATOR_BLOCK)
    ],
    (r"conv_256\.(weight|bias)", r"rises.0.\1"),
    (r"conv_1024\.(weight|bias)", r"rises.1.\1"),
    (r"ch_conv\.(weight|bias)", r"head.1.\1"),
]
DISCRIMINATOR: Names = [
    (r"inp_conv\.0\.weight", r"first.weight"),
    (r"encoder\.(\d+)\.(main|direct)\.(\d\.\w+)", r"blocks.\1.\2.\3"),
    (r"pos_256", r"position"),
    (r"conv_256\.(weight|bias)", r"narrow.\1"),
    (r"logits\.0\.weight", r"wide.weight"),
    (r"logits\.2\.weight", r"verdict.weight"),
]


def network(role: str, model: LadaGANConfig, sizes: Sizes, weights: Weights) -> nn.Module:
    """A network of the patch variant in evaluation mode, of our config and the official weights.

    Raises:
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    is_generator = role == "generator"
    kind = LadaGANGenerator if is_generator else LadaGANDiscriminator
    names = GENERATOR if is_generator else discriminator_names(len(model.encoder_widths) - 1)
    return fill(partial(kind, model, sizes.shape, 0), names, weights, f"ladagan {role}")


def sizes_of(parts: dict[str, Weights]) -> Sizes:
    """All sizes of the networks."""
    weights = parts["generator"]
    widths = [weights[f"pos_{tokens}"].shape[2] for tokens in STAGES]
    blocks = [f"block_{tokens}" for tokens in STAGES]
    model: dict[str, Any] = {
        "z_width": weights["init.0.weight"].shape[1],
        "widths": widths,
        "num_heads": [len(weights[f"{block}.attn.q_attn.weight"]) for block in blocks],
        "hidden_widths": [len(weights[f"{block}.mlp.0.weight"]) for block in blocks],
    }
    channels, spread, *_ = weights["ch_conv.weight"].shape
    side = math.isqrt(STAGES[-1]) * math.isqrt(widths[-1] // spread)
    if "discriminator" in parts:
        weights = parts["discriminator"]
        downs = indices(weights, r"encoder\.(\d+)\.")
        convolutions = ["inp_conv.0.weight", *(f"encoder.{i}.main.3.weight" for i in downs)]
        model |= {
            "encoder_widths": [len(weights[key]) for key in convolutions],
            "discriminator_heads": len(weights["block_256.attn.q_attn.weight"]),
            "discriminator_hidden": len(weights["block_256.mlp.0.weight"]),
            "out_widths": [len(weights[key]) for key in ("conv_256.weight", "logits.0.weight")],
        }
    return Sizes(model, (channels, side, side), 0)


def discriminator_names(num_downs: int) -> Names:
    """The whole table: the block of tokens comes behind the down blocks."""
    return [*DISCRIMINATOR, *within("block_256", f"blocks.{num_downs}", DISCRIMINATOR_BLOCK)]
