"""Weights of LadaGAN's later code: their names in ours, and networks of ours from them."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from scalegan.config.models import LadaGANConfig
from scalegan.convert.renaming import Names, Sizes, fill, indices
from scalegan.errors import CheckpointError, ConfigError
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


def generator(config: Mapping[str, Any], weights: dict[str, Tensor]) -> LadaGANGenerator:
    """The unconditional generator of the patch variant.

    Args:
        config: `img_size`, and, where they are not the published ones, `dim`, `noise_dim`, `heads`
            and `mlp_dim`: numbers, or lists of one per stage.
        weights: every tensor of the network, under the reference's keys.

    Returns:
        The network, in evaluation mode.

    Raises:
        ConfigError: if a size is not one we can build.
        CheckpointError: if a tensor is missing, unknown or of the wrong shape.
    """
    published = LadaGANConfig()
    ours = LadaGANConfig(
        z_width=number(config, "noise_dim", published.z_width),
        widths=numbers(config, "dim", published.widths, 3),
        num_heads=numbers(config, "heads", published.num_heads, 3),
        hidden_widths=numbers(config, "mlp_dim", published.hidden_widths, 3),
    )
    shape = shape_of(config, channels(weights, "ch_conv.weight", 0))
    return fill(lambda: LadaGANGenerator(ours, shape, 0), GENERATOR, weights, "ladagan generator")


def discriminator(config: Mapping[str, Any], weights: dict[str, Tensor]) -> LadaGANDiscriminator:
    """The unconditional discriminator; as `generator`.

    Args:
        config: `img_size`, and, where they are not the published ones, `enc_dim`, `out_dim`,
            `heads` and `mlp_dim`.
        weights: every tensor of the network, under the reference's keys.
    """
    side = number(config, "img_size", None)
    published = LadaGANConfig()
    encoder = PUBLISHED_ENCODERS.get(side, published.encoder_widths)
    narrow, wide = numbers(config, "out_dim", published.out_widths, 2)
    ours = LadaGANConfig(
        encoder_widths=numbers(config, "enc_dim", encoder),
        discriminator_heads=number(config, "heads", published.discriminator_heads),
        discriminator_hidden=number(config, "mlp_dim", published.discriminator_hidden),
        out_widths=(narrow, wide),
    )
    shape = shape_of(config, channels(weights, "inp_conv.0.weight", 1))
    names = discriminator_names(len(ours.encoder_widths) - 1)
    title = "ladagan discriminator"
    return fill(lambda: LadaGANDiscriminator(ours, shape, 0), names, weights, title)


def network(
    role: str, model: LadaGANConfig, sizes: Sizes, weights: dict[str, Tensor]
) -> LadaGANGenerator | LadaGANDiscriminator:
    """A network of our config from the reference's weights; errors as of `generator`."""
    if role == "generator":
        make = partial(LadaGANGenerator, model, sizes.shape, 0)
        return fill(make, GENERATOR, weights, "ladagan generator")
    names = discriminator_names(len(model.encoder_widths) - 1)
    other = partial(LadaGANDiscriminator, model, sizes.shape, 0)
    return fill(other, names, weights, "ladagan discriminator")


def sizes_of(parts: dict[str, dict[str, Tensor]]) -> Sizes:
    """All sizes of the networks.

    Raises:
        CheckpointError: if the tensors are not those of a LadaGAN.
    """
    weights = parts["generator"]
    try:
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
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"the tensors are not those of a LadaGAN: {error}") from None
    return Sizes(model, (channels, side, side), 0)


def discriminator_names(num_downs: int) -> Names:
    """The whole table: the block of tokens comes behind the down blocks."""
    return [*DISCRIMINATOR, *within("block_256", f"blocks.{num_downs}", DISCRIMINATOR_BLOCK)]


PUBLISHED_ENCODERS = {32: (128, 256), 64: (64, 128, 256), 128: (32, 64, 128, 256)}


def channels(weights: dict[str, Tensor], key: str, dim: int) -> int:
    """Channels of a sample, which the config does not name."""
    if key not in weights or weights[key].ndim != 4:
        raise CheckpointError(f"the weights hold no convolution `{key}`")
    return weights[key].shape[dim]


def shape_of(config: Mapping[str, Any], channels: int) -> tuple[int, int, int]:
    side = number(config, "img_size", None)
    return channels, side, side


def number(config: Mapping[str, Any], key: str, published: int | None) -> int:
    (found,) = numbers(config, key, () if published is None else (published,), 1)
    return found


def numbers(
    config: Mapping[str, Any], key: str, published: tuple[int, ...], count: int = 0
) -> tuple[int, ...]:
    """Whole numbers of a config: `count` of them, 0 = any; one number stands for all."""
    value = config.get(key, list(published))
    found = value if isinstance(value, list | tuple) else [value] * max(count, 1)
    is_whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in found)
    if not found or not is_whole or count not in (0, len(found)):
        many = f"{count} whole numbers" if count else "whole numbers"
        expected = "a whole number" if count == 1 else many
        raise ConfigError(f"`{key}` is {value!r} but must be {expected} of at least 1")
    return tuple(found)
