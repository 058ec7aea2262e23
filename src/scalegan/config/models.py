"""The sizes of every architecture's networks: what `[model]` may say.

Plain frozen dataclasses without PyTorch, like the other `settings`; the sentence below a field is
its help text, its annotation its range.
"""

from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Lt, MinLen, MultipleOf

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0), Lt(inf)]
Decay = Annotated[float, Ge(0), Lt(1)]


class Size(NamedTuple):
    """What a named size stands for."""

    width: int
    depth: int
    num_heads: int


GAT_SIZES = {
    "tiny": Size(96, 4, 4),  # ours, for CPUs; the others are published
    "S": Size(384, 12, 6),
    "B": Size(768, 12, 12),
    "L": Size(1024, 24, 16),
    "XL": Size(1152, 28, 16),
}


@dataclass(frozen=True)
class GATConfig:
    """A GAT generator and discriminator of one size (arXiv 2509.24935)."""

    architecture: Literal["gat"] = "gat"
    """Which pair of networks."""
    size: Literal["", "tiny", "S", "B", "L", "XL"] = ""
    """A published size, or tiny for CPUs: fills in width, depth and num_heads where they are 0."""
    width: Annotated[int, Ge(0)] = 0
    """Channels of a token, a multiple of four; 0 = from size."""
    depth: Annotated[int, Ge(0)] = 0
    """Transformer blocks, a multiple of num_levels; 0 = from size."""
    num_heads: Annotated[int, Ge(0)] = 0
    """Attention heads; width / num_heads is a multiple of four; 0 = from size."""
    patch_size: Count = 2
    """Side of a patch; divides the side of a sample."""
    mlp_ratio: Positive = 4.0
    """Feed-forward width over token width, before SwiGLU's factor 2/3."""
    num_levels: Count = 4
    """Images a generator makes and a discriminator sees, coarse to fine."""
    z_width: Count = 64
    """Length of the noise vector."""
    label_width: Count = 2048
    """Length of the discriminator's label vector, which the logit is an inner product with."""
    projector_width: Count = 2048
    """Hidden width of the projector that is aligned with a teacher."""
    style_decay: Decay = 0.995
    """Decay of the running class means of the style."""


@dataclass(frozen=True)
class LadaGANConfig:
    """A LadaGAN generator and discriminator (arXiv 2401.09596), by default for 32 pixels."""

    architecture: Literal["ladagan"] = "ladagan"
    """Which pair of networks."""
    z_width: Count = 128
    """Length of the noise vector, and of a class's vector where there are classes."""
    base: Count = 8
    """Side of the generator's first token grid; it doubles from stage to stage."""
    widths: Annotated[tuple[Count, ...], MinLen(1)] = (1024, 256, 64)
    """Channels of a token, stage by stage; all but the last are multiples of four."""
    num_heads: tuple[Count, ...] = (4, 4, 4)
    """Attention heads of the generator, stage by stage."""
    hidden_widths: tuple[Count, ...] = (512, 512, 512)
    """Feed-forward widths of the generator, stage by stage."""
    decoder_widths: tuple[Count, ...] = ()
    """Channels of convolutions that double the side behind the last stage; empty = channels of the
    last stage are spread over pixels instead."""
    encoder_widths: Annotated[tuple[Count, ...], MinLen(1)] = (128, 256)
    """Channels of the discriminator; each entry but the first halves the side, down to 16x16."""
    discriminator_heads: Count = 4
    """Attention heads of the discriminator; a divisor of the last of encoder_widths."""
    discriminator_hidden: Count = 512
    """Feed-forward width of the discriminator."""
    out_widths: tuple[Count, Count] = (512, 1024)
    """Channels of the two convolutions before the discriminator's logits."""


@dataclass(frozen=True)
class BigGANConfig:
    """A BigGAN or BigGAN-deep generator and discriminator (arXiv 1809.11096)."""

    architecture: Literal["biggan"] = "biggan"
    """Which pair of networks."""
    is_deep: bool = False
    """BigGAN-deep: bottlenecks, two blocks where BigGAN has one, all of z to every block."""
    channels: Count = 64
    """Unit of the widths: a block has 1 to 16 times as many. Published: 96, deep 128; CIFAR 64."""
    z_width: Count = 120
    """Length of the noise vector; hierarchical: a multiple of the number of blocks plus one."""
    shared_width: Annotated[int, Ge(0)] = 128
    """Length of the class embedding that all norms share; 0 = each norm has tables of its own."""
    is_hierarchical: bool = True
    """Whether every block gets a part of the noise."""
    generator_attention: tuple[Count, ...] = ()
    """Sides of feature maps that a generator's block makes and attention follows."""
    discriminator_attention: tuple[Count, ...] = ()
    """The same for the discriminator."""
    blocks_per_stage: Count = 2
    """Blocks of BigGAN-deep per resolution."""
    is_wide: bool = True
    """Whether the inner width of BigGAN's discriminator blocks is that of their output."""
    start: Literal["orthogonal", "normal"] = "orthogonal"
    """Weights at the start: orthogonal, or normal of deviation 0.02 (the authors' CIFAR script)."""
    has_tanh: bool = True
    """Whether samples are squashed into [-1, 1]; switch it off for latents, which have no bound."""
    norm_eps: Positive = 1e-5
    """Added to the variance by the conditional batch norms."""
    has_spectral_norm: bool = True
    """Whether weights are divided by their largest singular value; off in converted hub weights,
    which hold the quotients."""
    spectral_eps: Positive = 1e-6
    """Least length that a vector of the power iteration is divided by."""
    power_iterations: Count = 1
    """Per training forward and weight."""
    num_singular_values: Count = 1
    """Singular values that are tracked per weight; only the largest one acts."""


@dataclass(frozen=True)
class GANsformerConfig:
    """A GANsformer generator and discriminator of one size (arXiv 2103.01209).

    The defaults are the published model's, but for its learning without classes.
    """

    architecture: Literal["gansformer"] = "gansformer"
    """Which pair of networks."""
    num_components: Annotated[int, Ge(0)] = 16
    """Local latent vectors beside the global one; 0 = none and no attention: StyleGAN2."""
    latent_width: Annotated[int, Ge(4), MultipleOf(4)] = 32
    """Channels of each latent vector, a multiple of twice grid_directions."""
    z_width: Annotated[int, Ge(0)] = 0
    """Channels of each noise vector; 0 = latent_width."""
    channel_base: Count = 32768
    """Channels at side r are channel_base / r, but no more than channel_max."""
    channel_max: Count = 512
    """Most channels of a feature map."""
    attention: Literal["simplex", "duplex"] = "duplex"
    """simplex: pixels look at latents. duplex: pixels look at learned centroids, as published."""
    num_heads: Count = 1
    """Attention heads; divides the channels of every map with attention."""
    min_attention_side: Count = 4
    """Side of the smallest maps with attention."""
    max_attention_side: Count = 128
    """Side of the largest maps with attention."""
    integration: Literal["multiply", "add", "both"] = "multiply"
    """What the attended latents do to a pixel: scale it, are added, or both (paper)."""
    norm: Literal["layer", "instance", "none"] = "layer"
    """Pixels are normalized over channels, over positions, or not."""
    component_gate: bool = False
    """Whether each component has a gate on all attention to it."""
    pixel_gate: bool = False
    """Whether each pixel has a gate on all its attention."""
    clusterings: Count = 1
    """Duplex: rounds of assigning pixels to centroids; from the second, centroids are means."""
    carries_assignments: bool = False
    """Duplex: whether centroids are the means of the preceding layer's assignments."""
    attention_dropout: Decay = 0.12
    """Share of the attention that is dropped in training, half of it by whole components."""
    grid_directions: Count = 2
    """Directions along which positions of pixels are encoded."""
    component_positions: bool = True
    """Whether components have learned positions."""
    component_attention: bool = True
    """Whether components look at each other in the mapping network."""
    mapping: Literal["residual", "plain"] = "residual"
    """Layers of the mapping networks: pairs with a skip, or one after the other."""
    mapping_depth: Count = 8
    """Layers of the mapping networks, without the last."""
    mapping_heads: Count = 1
    """Heads of the components' attention to each other; divides latent_width."""
    synthesis: Literal["residual", "skip", "plain"] = "residual"
    """Generator: skips between features, a sum of images (StyleGAN2), or neither."""
    is_styled: bool = True
    """Whether the global latent modulates the convolutions (not so for CLEVR)."""
    discriminator: Literal["residual", "skip", "plain"] = "residual"
    """Discriminator: skips between features, the image at every side, or neither."""
    deviation_group: Count = 4
    """Images whose features' standard deviation the discriminator sees; less if fewer come."""
    style_decay: Decay = 0.995
    """Decay of the running mean of the latents."""


Model = GATConfig | LadaGANConfig | BigGANConfig | GANsformerConfig
"""The sizes of any architecture."""

MODELS: dict[str, type[Model]] = {
    "gat": GATConfig,
    "ladagan": LadaGANConfig,
    "biggan": BigGANConfig,
    "gansformer": GANsformerConfig,
}
"""By the name that `model.architecture` has."""
