"""GANsformer: a StyleGAN2 whose image regions attend to latent components of their own.

Source: "Generative Adversarial Transformers", arXiv 2103.01209 (ICML 2021), and its authors'
PyTorch code; StyleGAN2, arXiv 1912.04958 (v2). k components, R = k + 1 latent vectors (the last is
global) of width D, Y layers that read a style of their own, A heads, T positions of a map,
P channels of a position.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.models import GANsformerConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import Discriminator, DiscriminatorOutput, Generator, Labels, Levels
from scalegan.layers.bipartite import (
    Assignments,
    Attention,
    BipartiteAttention,
    direction_table,
)
from scalegan.layers.mapping import Keep, Mapping, MappingNetwork, Styles
from scalegan.layers.resample import downsample, upsample
from scalegan.layers.stylegan import (
    HalvingBlock,
    ScaledConv,
    ScaledLinear,
    StyledConv,
    leaky,
    minibatch_deviation,
)
from scalegan.layers.transformer import float32_island


def make_mapping(config: GANsformerConfig, num_classes: int) -> Mapping:
    inputs, k = config.z_width or config.latent_width, config.num_components
    sizes = config.latent_width, config.mapping_depth, config.mapping == "residual"
    labels = ScaledLinear(num_classes, inputs) if num_classes else None
    for_global = MappingNetwork(inputs * (2 if num_classes else 1), *sizes)
    for_global.requires_grad_(config.is_styled)
    for_components = None
    if k:
        for_components = MappingNetwork(
            inputs,
            *sizes,
            num_latents=k if config.component_attention else 0,
            num_heads=config.mapping_heads,
            has_positions=config.component_positions,
            dropout=config.attention_dropout,
        )
    return Mapping(labels, for_global, for_components, config.latent_width, config.style_decay)


class SynthesisLayer(nn.Module):
    """Convolution in the style of the global latent, attention to the others, noise, bias.

    Args:
        inputs, width, side: channels that come in; channels and side of what goes out.
        doubles: whether the side is twice that of what comes in.
        is_first: whether no layer before this one has attention.
    """

    noise: Float[Tensor, "H W"]

    def __init__(
        self,
        config: GANsformerConfig,
        inputs: int,
        width: int,
        side: int,
        doubles: bool,
        is_first: bool,
    ) -> None:
        super().__init__()
        latent = config.latent_width
        style = latent if config.is_styled else 0
        self.conv = StyledConv(inputs, width, 3, style, "up" if doubles else "")
        self.attention = None
        if has_attention_at(config, side):
            self.attention = BipartiteAttention(
                width,
                latent,
                latent,
                config.num_components,
                side**2,
                num_heads=config.num_heads,
                is_duplex=config.attention == "duplex",
                has_positions=config.component_positions,
                integration=config.integration,
                norm=config.norm,
                component_gate=config.component_gate,
                pixel_gate=config.pixel_gate,
                clusterings=config.clusterings,
                carries_assignments=config.carries_assignments,
                is_first=is_first,
                dropout=config.attention_dropout,
            )
            grid = direction_table(latent, side, config.grid_directions)
            self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("noise", torch.randn(side, side))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(
        self,
        x: Float[Tensor, "N C H W"],
        w: Float[Tensor, "N R D"],
        positions: Float[Tensor, "k D"] | None,
        noise: Float[Tensor, "#N 1 H2 W2"],
        keep: Attention | None,
        carried: Assignments | None,
    ) -> tuple[Float[Tensor, "N B H2 W2"], Attention | None, Assignments | None]:
        x, attention = self.conv(x, w[:, -1]), None
        if self.attention is not None:
            pixels, attention, carried = self.attention(
                x.flatten(2).mT, w[:, :-1], self.grid, positions, keep, carried
            )
            x = pixels.mT.view_as(x)
        x = x + noise * self.noise_strength + self.bias[:, None, None]
        return leaky(x), attention, carried


class SynthesisBlock(nn.Module):
    """All layers of one side, and the image that they make.

    Args:
        inputs: channels of the block before; 0 = this is the first one.
        width, side, channels: of the maps, and of the image.
        is_last: whether the image is complete after this block.
        is_first: whether no block before this one has attention.
    """

    def __init__(
        self,
        config: GANsformerConfig,
        inputs: int,
        width: int,
        side: int,
        channels: int,
        is_last: bool,
        is_first: bool,
    ) -> None:
        super().__init__()
        style, into = config.latent_width if config.is_styled else 0, inputs or width
        first = SynthesisLayer(config, into, width, side, inputs > 0, is_first)
        more = [SynthesisLayer(config, width, width, side, False, False)] if inputs else []
        self.layers = nn.ModuleList([first, *more])
        has_skip = inputs > 0 and config.synthesis == "residual"
        self.skip = ScaledConv(inputs, width, 1, "up", is_linear=True) if has_skip else None
        self.last = StyledConv(width, width, 3, style) if is_last else None
        self.to_image = None
        if is_last or config.synthesis == "skip":
            self.to_image = StyledConv(width, channels, 1, style, is_image=True)
        # The image's style is not counted: the next block's first layer reads it too.
        self.num_styles = len(self.layers) + is_last

    def forward(
        self,
        x: Float[Tensor, "N C H W"],
        image: Float[Tensor, "N B H W"] | None,
        w: Styles,
        positions: Float[Tensor, "k D"] | None,
        noise: Sequence[Tensor],
        keep: Keep,
        carried: Assignments | None = None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor], Assignments | None]:
        """Features, image and assignments of the block before become this one's.

        Args:
            w: rows from this block's first layer on.
            noise, keep: one per layer.

        Returns:
            Features, image, the attention of the layers that have any, assignments.
        """
        start, maps = x, []
        for i, layer in enumerate(self.layers):
            x, attention, carried = layer(x, w[:, :, i], positions, noise[i], keep[i], carried)
            maps += [] if attention is None else [attention]
        if self.skip is not None:
            x = (x + self.skip(start)) * math.sqrt(0.5)
        if self.last is not None:
            x = self.last(x, w[:, -1, len(self.layers)])
        if self.to_image is not None:
            detail = self.to_image(x, w[:, -1, self.num_styles]).float()
            image = detail if image is None else upsample(image) + detail
        return x, image, maps, carried


class GANsformerGenerator(Generator):
    """k + 1 noise vectors and a label in, one image out.

    In training, pixel noise and dropout are drawn; in evaluation the noise is a stored constant.

    Args:
        config: sizes.
        shape: (C, H, W) of a sample; H == W, a power of two, at least 8.
        num_classes: 0 = unconditional.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    num_levels = 1

    def __init__(
        self, config: GANsformerConfig, shape: tuple[int, int, int], num_classes: int
    ) -> None:
        super().__init__()
        check_sizes(config, shape, num_classes)
        k = config.num_components
        self.z_shape = (k + 1, config.z_width or config.latent_width)
        self.num_classes = num_classes
        self.mapping = make_mapping(config, num_classes)
        self.positions = None
        # Duplex attention does not read them.
        is_read = config.attention == "simplex" or config.component_gate
        if k and config.component_positions and (is_read or config.component_attention):
            self.positions = nn.Parameter(torch.rand(k, config.latent_width))
        self.constant = nn.Parameter(torch.randn(channels_at(config, 4), 4, 4))
        self.blocks = nn.ModuleList()
        inputs, is_first = 0, True
        for side in sides(shape):
            width, is_last = channels_at(config, side), side == shape[1]
            block = SynthesisBlock(config, inputs, width, side, shape[0], is_last, is_first)
            self.blocks.append(block)
            inputs, is_first = width, is_first and not has_attention_at(config, side)
        self.num_styles = len(self.layers()) + 2  # one before the image, and the image's

    def map(
        self,
        z: Float[Tensor, "N R Z"],
        labels: Labels,
        keep: Keep | None = None,
    ) -> Styles:
        """One row of latents for every layer; `keep` replaces what is drawn in training."""
        if keep is None and self.training:
            keep = self.mapping.draw_dropout(len(z))
        w = self.mapping(z, labels, self.positions, keep)
        return w[:, :, None].expand(-1, -1, self.num_styles, -1)

    def synthesize(
        self,
        w: Styles,
        noise: Sequence[Tensor] | None = None,
        keep: Keep | None = None,
    ) -> Levels:
        """The image; `noise` and `keep` replace what is drawn in training or stored for later."""
        if noise is None:
            noise = self.draw_noise(len(w)) if self.training else self.constant_noise()
        if keep is None:
            keep = self.draw_dropout(len(w)) if self.training else [None] * len(noise)
        return self._paint(w, noise, keep)[0]

    def attention_maps(self, w: Styles) -> Float[Tensor, "N k B A H W"]:
        """Attention of every position to every component, by layer and head, at full side.

        Raises:
            ConfigError: if the network has no attention.
        """
        levels, maps = self._paint(w, self.constant_noise(), [None] * len(self.layers()))
        if not maps:
            raise ConfigError("the generator has no attention", "set `model.num_components`")
        at_full_side = []
        for attention in maps:  # (N, A, T, k)
            own = math.isqrt(attention.shape[2])
            small = attention.permute(0, 3, 1, 2).unflatten(-1, (own, own))  # (N, k, A, h, w)
            times = levels.shape[-1] // own
            at_full_side.append(small.repeat_interleave(times, -1).repeat_interleave(times, -2))
        return torch.stack(at_full_side, dim=2)

    def _paint(self, w: Styles, noise: Sequence[Tensor], keep: Keep) -> tuple[Levels, list[Tensor]]:
        x: Tensor = self.constant.expand(len(w), -1, -1, -1)
        image, carried, layer, row = None, None, 0, 0
        maps: list[Tensor] = []
        for block in self.synthesis_blocks():
            own = slice(layer, layer + len(block.layers))
            x, image, seen, carried = block(
                x, image, w[:, :, row:], self.positions, noise[own], keep[own], carried
            )
            maps += seen
            layer, row = own.stop, row + block.num_styles
        assert image is not None, "the last block makes one"
        return image[:, None], maps

    def draw_noise(self, count: int) -> list[Tensor]:
        """Standard normal noise for every layer, which scales it by its learned strength."""
        return [torch.randn(count, 1, *s.noise.shape, device=s.noise.device) for s in self.layers()]

    def constant_noise(self) -> list[Tensor]:
        return [layer.noise[None, None] for layer in self.layers()]

    def draw_dropout(self, count: int) -> Keep:
        """Dropout of the attention of every layer; None where there is nothing to drop."""
        return [s.attention.draw_dropout(count) if s.attention else None for s in self.layers()]

    def layers(self) -> list[SynthesisLayer]:
        layers = [layer for block in self.synthesis_blocks() for layer in block.layers]
        return [layer for layer in layers if isinstance(layer, SynthesisLayer)]

    def synthesis_blocks(self) -> list[SynthesisBlock]:
        return [block for block in self.blocks if isinstance(block, SynthesisBlock)]

    def track(self, w: Styles, labels: Labels) -> None:
        self.mapping.track(w)

    def truncate(self, w: Styles, labels: Labels, psi: float) -> Styles:
        return self.mapping.truncate(w, psi)

    def mix(self, w: Styles, other: Styles, cut: int) -> Styles:
        """Rows of w for the first `cut` layers, all vectors of them, and the other's after."""
        return torch.cat([w[:, :, :cut], other[:, :, cut:]], dim=2)


class GANsformerDiscriminator(Discriminator):
    """StyleGAN2's: an image and a label in, one logit out, the label's.

    Args:
        config: sizes.
        shape: (C, H, W) of a sample; H == W, a power of two, at least 8.
        num_classes: 0 = unconditional.
        features: of a teacher to align with; it has no such projector, so 0.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    def __init__(
        self,
        config: GANsformerConfig,
        shape: tuple[int, int, int],
        num_classes: int,
        features: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(config, shape, num_classes, features)
        self.num_classes, self.group = num_classes, config.deviation_group
        self.is_skip = config.discriminator == "skip"
        widths = [channels_at(config, side) for side in reversed(sides(shape))]  # down to side 4
        self.from_image = nn.ModuleList(
            ScaledConv(shape[0], width, 1) for width in (widths if self.is_skip else widths[:1])
        )
        self.blocks = nn.ModuleList(
            HalvingBlock(inputs, outputs, config.discriminator == "residual")
            for inputs, outputs in pairwise(widths)
        )
        self.conv = ScaledConv(widths[-1] + 1, widths[-1], 3)
        self.hidden = ScaledLinear(widths[-1] * 16, widths[-1])
        self.out = ScaledLinear(widths[-1], max(1, num_classes))

    def forward(
        self, samples: Levels, labels: Labels, with_features: bool = False
    ) -> DiscriminatorOutput:
        assert not with_features, "refused when the network is built"
        image = samples[:, -1]
        x = self.from_image[0](image)
        for i, block in enumerate(self.blocks, start=1):
            x = block(x)
            if self.is_skip:
                image = downsample(image)
                x = x + self.from_image[i](image)
        x = self.conv(minibatch_deviation(x, self.group))
        with float32_island(x.device):
            logits = self.out(leaky(self.hidden(x.float().flatten(1))))  # (N, classes or 1)
        if self.num_classes:
            logits = logits.gather(1, labels[:, None])
        return DiscriminatorOutput(logits, None)


def sides(shape: tuple[int, int, int]) -> list[int]:
    """4, 8, ... up to the side of a sample."""
    return [2**i for i in range(2, shape[1].bit_length())]


def channels_at(config: GANsformerConfig, side: int) -> int:
    return min(config.channel_base // side, config.channel_max)


def has_attention_at(config: GANsformerConfig, side: int) -> bool:
    return config.num_components > 0 and (
        config.min_attention_side <= side <= config.max_attention_side
    )


def check_sizes(
    config: GANsformerConfig, shape: tuple[int, int, int], num_classes: int, features: int = 0
) -> None:
    """Raise ConfigError where the sizes do not fit together."""
    _, height, width = shape
    if height != width or height < 8 or height & (height - 1):
        raise ConfigError(
            f"samples of {height}x{width} do not fit GANsformer",
            "samples must be square, their side a power of two and at least 8",
        )
    if config.channel_base < height:
        raise ConfigError(
            f"`model.channel_base` {config.channel_base} leaves no channels at side {height}"
        )
    if features:
        raise ConfigError(
            "GANsformer's discriminator has no features to align with a teacher's",
            "set `objective.alignment.weight` to 0",
        )
    if not config.is_styled and (num_classes or not config.num_components):
        raise ConfigError(
            "without `model.is_styled` nothing reads the global latent, which labels act through",
            "leave it on, or train without classes and with components",
        )
    _check_attention(config, shape)


def _check_attention(config: GANsformerConfig, shape: tuple[int, int, int]) -> None:
    latent, heads = config.latent_width, config.num_heads
    has_gates = config.component_gate or config.pixel_gate
    if (has_gates and not config.num_components) or (
        config.mapping_heads > 1 and not (config.num_components and config.component_attention)
    ):
        raise ConfigError("gates and `model.mapping_heads` have no effect without attention")
    if latent % (2 * config.grid_directions):
        raise ConfigError(
            f"`model.latent_width` {latent} is not a multiple of twice `model.grid_directions` "
            f"{config.grid_directions}",
            "positions are a sine and a cosine per direction",
        )
    attended = [channels_at(config, s) for s in sides(shape) if has_attention_at(config, s)]
    odd = next((number for number in attended if number % heads), 0)
    if odd:
        raise ConfigError(f"`model.num_heads` {heads} does not divide a map of {odd} channels")
    if latent % config.mapping_heads or config.z_width % config.mapping_heads:
        raise ConfigError(
            f"`model.mapping_heads` {config.mapping_heads} does not divide the latents' width"
        )
    if config.num_components and not attended:
        raise ConfigError(
            "`model.num_components` is set but no side of the maps has attention",
            "see `model.min_attention_side` and `model.max_attention_side`",
        )
    if config.attention == "simplex" and (config.clusterings > 1 or config.carries_assignments):
        raise ConfigError(
            "`model.clusterings` and `model.carries_assignments` have no effect on simplex "
            "attention",
            "leave them out, or set `model.attention` to duplex",
        )
