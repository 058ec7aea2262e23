"""The settings of every architecture's networks: what `[model]` of a recipe may say.

Plain frozen dataclasses without PyTorch; the sentence below a field is its help text, its
annotation its range.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf

from scalegan.errors import ConfigError

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0), Lt(inf)]
Decay = Annotated[float, Ge(0), Lt(1)]
Amount = Annotated[float, Ge(0), Lt(inf)]
Share = Annotated[float, Ge(0), Le(1)]


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
DISCRIMINATOR_NUMBERS = ("discriminator_width", "discriminator_depth", "discriminator_heads")
"""What a size of the discriminator's own fills in, in the order of `Size`."""


@dataclass(frozen=True)
class ModelConfig:
    """What the settings of all architectures derive from."""

    architecture: str = ""
    """Name of the pair of networks."""

    def width_of(self, network: str) -> int:
        """Channels of a network's tokens, which its learning rate shrinks with; 0 has no such one.

        Args:
            network: "generator" or "discriminator".
        """
        return getattr(self, "width", 0)


@dataclass(frozen=True)
class GATConfig(ModelConfig):
    """A GAT generator and discriminator of one size (arXiv 2509.24935)."""

    architecture: Literal["gat"] = "gat"
    """Name of the pair of networks: gat, ladagan, biggan or gansformer."""
    size: Literal["", "tiny", "S", "B", "L", "XL"] = ""
    """A published size (S, B, L, XL), or tiny for CPUs, fills in width, depth and num_heads where
    they are 0."""
    width: Annotated[int, Ge(0)] = 0
    """Channels of a token, a multiple of 4; 0 takes them from the size."""
    depth: Annotated[int, Ge(0)] = 0
    """Transformer blocks of each network, a multiple of num_levels; 0 takes them from the size."""
    num_heads: Annotated[int, Ge(0)] = 0
    """Attention heads of a block; width / num_heads is a multiple of 4; 0 takes them from the
    size."""
    discriminator: Literal["", "tiny", "S", "B", "L", "XL"] = ""
    """A size for the discriminator alone, which fills in discriminator_width, discriminator_depth
    and discriminator_heads where they are 0; empty takes the generator's."""
    discriminator_width: Annotated[int, Ge(0)] = 0
    """Channels of a token in the discriminator; 0 takes width."""
    discriminator_depth: Annotated[int, Ge(0)] = 0
    """Transformer blocks of the discriminator; 0 takes depth."""
    discriminator_heads: Annotated[int, Ge(0)] = 0
    """Attention heads of the discriminator's blocks; 0 takes num_heads."""
    patch_size: Count = 2
    """Side of a patch in pixels (or latents); it divides the side of a sample."""
    mlp_ratio: Positive = 4.0
    """Width of the feed-forward layers over the width of a token, before SwiGLU's factor 2/3."""
    supervision: Literal["noise", "scales"] = "noise"
    """How the discriminator sees the levels; it follows objective.supervision, which says more."""
    num_levels: Count = 4
    """Levels, coarse to fine, that the generator makes and the discriminator sees of each
    sample."""
    z_width: Count = 64
    """Length of the noise vector."""
    modulation_gain: Positive = 0.1
    """Gain of the start values of the generator's modulations. With 0.1 samples start as almost one
    image, which a short training of a small network hardly leaves; with 1.5 they start varied."""
    layer_scale: Positive = 0.1
    """Start value of the learned scales behind the discriminator's layers. With 0.1 a shallow
    network's class token sees little of the image for a long time; a larger value shows it more."""
    label_width: Count = 2048
    """Length of the discriminator's label vector, which the logit is an inner product with."""
    projector_width: Count = 2048
    """Hidden width of the projector that is aligned with a teacher."""
    style_decay: Decay = 0.995
    """Decay per step of the running class means of the style, which truncation pulls towards."""

    @property
    def discriminator_size(self) -> Size:
        """The discriminator's numbers: its own, or the generator's."""
        return Size(
            self.discriminator_width or self.width,
            self.discriminator_depth or self.depth,
            self.discriminator_heads or self.num_heads,
        )

    def width_of(self, network: str) -> int:
        return self.discriminator_size.width if network == "discriminator" else self.width

    def with_numbers(self) -> "GATConfig":
        """Replace named sizes by the numbers that they stand for.

        Raises:
            ConfigError: if a number of the generator's is neither set nor named.
        """
        numbers = _numbers(self, Size._fields, self.size)
        for name, number in numbers.items():
            if not number:
                raise ConfigError(
                    f"`model.{name}` is not set",
                    "set it, or `model.size` to one of the named sizes",
                )
        own = _numbers(self, DISCRIMINATOR_NUMBERS, self.discriminator)
        return replace(self, size="", discriminator="", **numbers, **own)


def _numbers(model: GATConfig, names: Sequence[str], size: str) -> dict[str, Any]:
    """One network's settings of these names; a named size fills in those that are 0."""
    named = GAT_SIZES[size] if size else Size(0, 0, 0)
    return {name: getattr(model, name) or number for name, number in zip(names, named, strict=True)}


@dataclass(frozen=True)
class LadaGANConfig(ModelConfig):
    """A LadaGAN generator and discriminator (arXiv 2401.09596), by default for 32 pixels."""

    architecture: Literal["ladagan"] = "ladagan"
    """Name of the pair of networks: gat, ladagan, biggan or gansformer."""
    z_width: Count = 128
    """Length of the noise vector, and of a class's vector where there are classes."""
    base: Count = 8
    """Side of the generator's first token grid; it doubles from stage to stage."""
    widths: Annotated[tuple[Count, ...], MinLen(1)] = (1024, 256, 64)
    """Channels of a token, stage by stage; all but the last are multiples of four."""
    num_heads: tuple[Count, ...] = (4, 4, 4)
    """Attention heads of the generator's blocks, stage by stage."""
    hidden_widths: tuple[Count, ...] = (512, 512, 512)
    """Widths of the generator's feed-forward layers, stage by stage."""
    decoder_widths: tuple[Count, ...] = ()
    """Channels of convolutions that double the side behind the last stage; without any, the
    channels of the last stage are spread over pixels instead."""
    encoder_widths: Annotated[tuple[Count, ...], MinLen(1)] = (128, 256)
    """Channels of the discriminator; each entry but the first halves the side, down to 16x16."""
    discriminator_heads: Count = 4
    """Attention heads of the discriminator's block; a divisor of the last of encoder_widths."""
    discriminator_hidden: Count = 512
    """Width of the discriminator's feed-forward layer."""
    out_widths: tuple[Count, Count] = (512, 1024)
    """Channels of the two convolutions before the discriminator's logits."""


@dataclass(frozen=True)
class BigGANConfig(ModelConfig):
    """A BigGAN or BigGAN-deep generator and discriminator (arXiv 1809.11096)."""

    architecture: Literal["biggan"] = "biggan"
    """Name of the pair of networks: gat, ladagan, biggan or gansformer."""
    is_deep: bool = False
    """Whether the networks are BigGAN-deep's: bottlenecks, two blocks where BigGAN has one, and all
    of the noise to every block."""
    channels: Count = 64
    """Unit of the widths, of which a block has 1 to 16 times as many channels. Published: 96, deep
    128; CIFAR 64."""
    z_width: Count = 120
    """Length of the noise vector; where is_hierarchical is set, a multiple of the number of blocks
    plus one."""
    shared_width: Annotated[int, Ge(0)] = 128
    """Length of the class embedding that all norms share; 0 gives each norm tables of its own."""
    is_hierarchical: bool = True
    """Whether every block of the generator gets a part of the noise."""
    generator_attention: tuple[Count, ...] = ()
    """Sides of the generator's feature maps that are followed by attention."""
    discriminator_attention: tuple[Count, ...] = ()
    """Sides of the discriminator's feature maps that are followed by attention."""
    blocks_per_stage: Count = 2
    """Blocks that BigGAN-deep has at each resolution."""
    is_wide: bool = True
    """Whether the inner width of BigGAN's discriminator blocks is that of their output."""
    start: Literal["orthogonal", "normal"] = "orthogonal"
    """Weights at the start are orthogonal, or normal of standard deviation 0.02 (the authors' CIFAR
    script)."""
    has_tanh: bool = True
    """Whether samples are squashed into [-1, 1]; switch it off for latents, which have no bound."""
    norm_eps: Positive = 1e-5
    """Number that the conditional batch norms add to the variance."""
    has_spectral_norm: bool = True
    """Whether weights are divided by their largest singular value; converted weights of the hub
    hold the quotients already, and have it off."""
    spectral_eps: Positive = 1e-6
    """Least length that a vector of the power iteration is divided by."""
    power_iterations: Count = 1
    """Iterations of the power method for each weight, at every forward pass in training."""
    num_singular_values: Count = 1
    """Singular values that are tracked for each weight; only the largest one acts."""


@dataclass(frozen=True)
class GANsformerConfig(ModelConfig):
    """A GANsformer generator and discriminator of one size (arXiv 2103.01209). The defaults are the
    published model's, but for its learning without classes."""

    architecture: Literal["gansformer"] = "gansformer"
    """Name of the pair of networks: gat, ladagan, biggan or gansformer."""
    num_components: Annotated[int, Ge(0)] = 16
    """Local latent vectors beside the global one; 0 leaves out all attention, which is
    StyleGAN2."""
    latent_width: Annotated[int, Ge(4), MultipleOf(4)] = 32
    """Channels of each latent vector, a multiple of twice grid_directions."""
    z_width: Annotated[int, Ge(0)] = 0
    """Channels of each noise vector; 0 takes latent_width."""
    channel_base: Count = 32768
    """Channels at side r are channel_base / r, but no more than channel_max."""
    channel_max: Count = 512
    """Largest number of channels of a feature map."""
    attention: Literal["simplex", "duplex"] = "duplex"
    """What pixels attend to: the latents (simplex), or centroids that are learned beside them
    (duplex, as published)."""
    num_heads: Count = 1
    """Attention heads, a divisor of the channels of every map with attention."""
    min_attention_side: Count = 4
    """Side in pixels of the smallest maps with attention."""
    max_attention_side: Count = 128
    """Side in pixels of the largest maps with attention."""
    integration: Literal["multiply", "add", "both"] = "multiply"
    """What the attended latents do to a pixel: scale it, are added, or both (paper)."""
    norm: Literal["layer", "instance", "none"] = "layer"
    """Whether pixels are normalized over channels (layer), over positions (instance), or not
    (none)."""
    component_gate: bool = False
    """Whether each component has a gate on all attention to it."""
    pixel_gate: bool = False
    """Whether each pixel has a gate on all its attention."""
    clusterings: Count = 1
    """Rounds in which duplex attention assigns pixels to centroids; from the second one on,
    centroids are means of their pixels."""
    carries_assignments: bool = False
    """Whether centroids of duplex attention are the means of the preceding layer's assignments."""
    attention_dropout: Decay = 0.12
    """Share of the attention that is dropped in training, half of it by whole components."""
    grid_directions: Count = 2
    """Directions along which positions of pixels are encoded."""
    component_positions: bool = True
    """Whether components have learned positions."""
    component_attention: bool = True
    """Whether components attend to each other in the mapping network."""
    mapping: Literal["residual", "plain"] = "residual"
    """How the layers of the mapping networks follow each other: in pairs with a skip connection
    (residual), or one after the other (plain)."""
    mapping_depth: Count = 8
    """Layers of each mapping network, not counting the last."""
    mapping_heads: Count = 1
    """Heads of the components' attention to each other, a divisor of latent_width."""
    synthesis: Literal["residual", "skip", "plain"] = "residual"
    """What connects the generator's resolutions: skips between features (residual), a sum of images
    (skip, as StyleGAN2), or neither (plain)."""
    is_styled: bool = True
    """Whether the global latent modulates the convolutions (not so for CLEVR)."""
    discriminator: Literal["residual", "skip", "plain"] = "residual"
    """What connects the discriminator's resolutions: skips between features (residual), the image
    at every side (skip), or neither (plain)."""
    deviation_group: Count = 4
    """Images over which the standard deviation of features is taken that the discriminator sees; a
    smaller batch takes all of its own."""
    style_decay: Decay = 0.995
    """Decay per step of the running mean of the style, which truncation pulls towards."""


MODELS: dict[str, type[ModelConfig]] = {
    "gat": GATConfig,
    "ladagan": LadaGANConfig,
    "biggan": BigGANConfig,
    "gansformer": GANsformerConfig,
}
"""The settings of each architecture by its name, which `model.architecture` has."""
