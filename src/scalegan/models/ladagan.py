"""LadaGAN: linear additive attention in both networks, on pixels, with patch logits.

Source: "Efficient generative adversarial networks using linear additive-attention Transformers",
arXiv 2401.09596. Where the authors' two codes differ, the operations are those of the later one and
the start values those of the earlier one, which made the published numbers (docs/deviations.md,
`lada-operations`, `lada-start`); labels are ours (`lada-labels`). G side of a token grid
(T = G * G), Z width of the condition.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.models import LadaGANConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import (
    Discriminator,
    DiscriminatorOutput,
    Generator,
    Labels,
    Levels,
    Samples,
)
from scalegan.layers.attention import AdditiveAttention
from scalegan.layers.batch_norm import LibraryNorm
from scalegan.layers.transformer import float32_island, to_map, to_tokens

WINDOW = 4
"""Side of the piece of the last map that one logit is about."""


# h = ReLU(W_h z), SMLN(x, z) = gamma(h) * LN(x) + beta(h) (after arXiv 1810.01365)
class ModulatedNorm(nn.Module):
    """Layer norm whose gain and shift are made from the condition; the gain is not 1 + gain."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.into = nn.Linear(condition_width, width)
        self.gain = nn.Linear(width, width)
        self.shift = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "N T D"], w: Float[Tensor, "N Z"]) -> Float[Tensor, "N T D"]:
        hidden = F.relu(self.into(w))[:, None]  # (N, 1, D)
        return self.gain(hidden) * self.norm(x) + self.shift(hidden)


class GeneratorBlock(nn.Module):
    """Attention with a residual, then feed-forward without, each behind a modulated norm."""

    def __init__(self, width: int, condition_width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_a = ModulatedNorm(width, condition_width)
        self.attention = AdditiveAttention(width, num_heads)
        self.norm_f = ModulatedNorm(width, condition_width)
        self.feedforward = feedforward(width, hidden)

    def forward(self, x: Float[Tensor, "N T D"], w: Float[Tensor, "N Z"]) -> Float[Tensor, "N T D"]:
        x = x + self.attention(self.norm_a(x, w))
        return self.feedforward(self.norm_f(x, w))


class LadaGANGenerator(Generator):
    """Noise, and a label where there are classes, in; an image of unbounded values out.

    Args:
        config: sizes.
        shape: (C, H, W) of a sample; H == W, a multiple of the last stage's token grid.
        num_classes: 0 = unconditional, as published.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    def __init__(
        self, config: LadaGANConfig, shape: tuple[int, int, int], num_classes: int
    ) -> None:
        super().__init__()
        scale = _check_generator(config, shape)
        channels, widths, grid = shape[0], config.widths, config.base
        self.z_shape = (config.z_width,)
        self.num_levels = 1
        self.num_classes = num_classes
        condition = config.z_width * (2 if num_classes else 1)
        self.labels = nn.Embedding(num_classes, config.z_width) if num_classes else None
        self.first = nn.Linear(condition, grid**2 * widths[0], bias=False)
        self.positions = nn.ParameterList(
            torch.empty(1, (grid * 2**i) ** 2, width) for i, width in enumerate(widths)
        )
        sizes = zip(widths, config.num_heads, config.hidden_widths, strict=True)
        self.blocks = nn.ModuleList(
            GeneratorBlock(width, condition, heads, hidden) for width, heads, hidden in sizes
        )
        self.rises = nn.ModuleList(
            nn.Conv2d(into // 4, out, 3, padding=1) for into, out in pairwise(widths)
        )
        if config.decoder_widths:
            self.head = decoder(widths[-1], config.decoder_widths, channels)
        else:
            last = nn.Conv2d(widths[-1] // scale**2, channels, 3, padding=1)
            self.head = nn.Sequential(nn.PixelShuffle(scale), last)
        self.initialize()

    def initialize(self) -> None:
        """Draw the start values, those of the earlier code."""
        self.apply(_initialize)
        for position in self.positions:
            nn.init.orthogonal_(position[0])
        if self.labels is not None:
            nn.init.normal_(self.labels.weight)  # as large as the noise that it stands beside

    def map(self, z: Float[Tensor, "N Z"], labels: Labels) -> Float[Tensor, "N S"]:
        """The condition: the noise, then the label's vector; there is no mapping network."""
        return z if self.labels is None else torch.cat([z, self.labels(labels)], dim=1)

    def synthesize(self, w: Float[Tensor, "N S"]) -> Levels:
        x, _ = self._run(w)
        return self.head(to_map(x)).float()[:, None]  # (N, 1, C, H, W)

    def token_weights(self, w: Float[Tensor, "N S"]) -> list[Float[Tensor, "N A G G"]]:
        """The weight of every token in the query of its head, stage by stage."""
        weights = []
        for block, x in zip(self.blocks, self._run(w)[1], strict=True):
            assert isinstance(block, GeneratorBlock)
            q = block.attention.into(block.norm_a(x, w)).chunk(3, dim=-1)[0]
            weights.append(to_map(block.attention.weigh(q)))
        return weights

    def _run(
        self, w: Float[Tensor, "N S"]
    ) -> tuple[Float[Tensor, "N T D"], list[Float[Tensor, "N _ _"]]]:
        """The last stage's tokens, and what every block was given."""
        x = self.first(w).unflatten(1, self.positions[0].shape[1:])  # (N, T, D), rows of the grid
        given = []
        for i, (block, position) in enumerate(zip(self.blocks, self.positions, strict=True)):
            if i > 0:
                x = to_tokens(self.rises[i - 1](F.pixel_shuffle(to_map(x), 2)))  # (N, 4 T, D')
            given.append(x + position)
            x = block(given[-1], w)
        return x, given

    def truncate(self, w: Float[Tensor, "N S"], labels: Labels, psi: float) -> Float[Tensor, "N S"]:
        # docs/deviations.md, `lada-truncation`: the mean of the noise is zero.
        noise, rest = w.tensor_split([self.z_shape[0]], dim=1)
        return torch.cat([psi * noise, rest], dim=1)


class DiscriminatorBlock(nn.Module):
    """Attention, then feed-forward, each with a norm before and a residual around."""

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_a = nn.LayerNorm(width)
        self.attention = AdditiveAttention(width, num_heads)
        self.norm_f = nn.LayerNorm(width)
        self.feedforward = feedforward(width, hidden)

    def forward(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N T D"]:
        x = x + self.attention(self.norm_a(x))
        return x + self.feedforward(self.norm_f(x))


class DownBlock(nn.Module):
    """Half the side: the mean of a branch of two convolutions and of a short one."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        first = nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False)
        second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.main = nn.Sequential(*normalized(first), *normalized(second))
        short = nn.Conv2d(into, out, 1, bias=False)
        self.direct = nn.Sequential(nn.AvgPool2d(2), *normalized(short))

    def forward(self, x: Samples) -> Float[Tensor, "N D G G"]:
        return (self.main(x) + self.direct(x)) / 2


class LadaGANDiscriminator(Discriminator):
    """An image in; (G/2 - 3)^2 logits of overlapping pieces of it out, row by row: 25 for G = 16.

    Args:
        config: sizes.
        shape: (C, H, W) of a sample; H == W, G times a power of two.
        num_classes: 0 = unconditional, as published.
        features: must be 0: there is nothing here that a teacher could align.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    def __init__(
        self,
        config: LadaGANConfig,
        shape: tuple[int, int, int],
        num_classes: int,
        features: int = 0,
    ) -> None:
        super().__init__()
        if features:
            raise ConfigError(
                "LadaGAN has no features that a teacher could align",
                "leave `objective.alignment` out",
            )
        grid = _check_discriminator(config, shape)
        widths, (narrow, wide) = config.encoder_widths, config.out_widths
        self.first = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        heads, hidden = config.discriminator_heads, config.discriminator_hidden
        downs = [DownBlock(into, out) for into, out in pairwise(widths)]
        self.blocks = nn.ModuleList([*downs, DiscriminatorBlock(widths[-1], heads, hidden)])
        self.position = nn.Parameter(torch.empty(1, grid**2, widths[-1]))
        self.narrow = nn.Conv2d(4 * widths[-1], narrow, 3, padding=1)
        self.wide = nn.Conv2d(narrow, wide, 1, bias=False)
        self.verdict = nn.Conv2d(wide, 1, WINDOW, bias=False)
        kernel = wide * WINDOW**2
        self.labels = nn.Embedding(num_classes, kernel) if num_classes else None
        self.initialize()

    def initialize(self) -> None:
        """Draw the start values, those of the earlier code."""
        self.apply(_initialize)
        nn.init.orthogonal_(self.position[0])
        if self.labels is not None:
            nn.init.zeros_(self.labels.weight)  # starts as the unconditional network

    def forward(
        self, samples: Levels, labels: Labels, with_features: bool = False
    ) -> DiscriminatorOutput:
        assert not with_features, "there are none"
        x = F.leaky_relu(self.first(samples.flatten(1, 2)), 0.2)  # (N, D, H, W); L is 1
        for block in self.blocks[:-1]:
            x = block(x)
        x = to_map(self.blocks[-1](to_tokens(x) + self.position))  # (N, D, G, G)
        x = self.narrow(F.pixel_unshuffle(x, 2))  # (N, D', G / 2, G / 2)
        with float32_island(x.device):
            x = F.leaky_relu(self.wide(x.float()), 0.2)  # (N, E, G / 2, G / 2)
            logits = self.verdict(x)
            if self.labels is not None:  # every class adds a kernel of its own
                pieces = F.unfold(x, WINDOW)  # (N, 16 E, K)
                logits = logits.flatten(1) + (self.labels(labels)[:, None] @ pieces)[:, 0]
        return DiscriminatorOutput(logits.flatten(1), None)


def feedforward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def normalized(convolution: nn.Conv2d, eps: float = 1e-5, momentum: float = 0.1) -> list[nn.Module]:
    norm = LibraryNorm(convolution.out_channels, eps=eps, momentum=momentum)
    return [convolution, norm, nn.LeakyReLU(0.2)]


def decoder(into: int, widths: tuple[int, ...], channels: int) -> nn.Sequential:
    """The head of the authors' 128-pixel runs: the side doubles with every width."""
    layers: list[nn.Module] = []
    for out in widths:
        convolution = nn.Conv2d(into, out, 3, padding=1)
        # Only the earlier code has this head: its epsilon, and its decay of 0.99.
        layers += [nn.Upsample(scale_factor=2), *normalized(convolution, 1e-3, 0.01)]
        into = out
    return nn.Sequential(*layers, nn.Conv2d(into, channels, 3, padding=1))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, AdditiveAttention):
        for part in module.into.weight.chunk(3):  # q, k and v each orthogonal, not all as one
            nn.init.orthogonal_(part)
    elif isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_generator(config: LadaGANConfig, shape: tuple[int, int, int]) -> int:
    """How much larger a sample is than the last token grid; ConfigError where sizes do not fit."""
    stages, (_, height, width) = len(config.widths), shape
    for name in ("num_heads", "hidden_widths"):
        if len(getattr(config, name)) != stages:
            raise ConfigError(
                f"`model.{name}` and `model.widths` differ in their number of entries"
            )
    grid = config.base * 2 ** (stages - 1)
    if height != width or height % grid:
        raise ConfigError(
            f"samples of {height}x{width} do not fit `model.base` {config.base} and {stages} "
            f"stages, which end at {grid}x{grid} tokens",
            f"samples must be square, their side a multiple of {grid}",
        )
    scale, doublings = height // grid, len(config.decoder_widths)
    if doublings and scale != 2**doublings:
        raise ConfigError(
            f"`model.decoder_widths` has {doublings} entries but samples of {height}x{width} are "
            f"{scale} times as large as the last {grid}x{grid} tokens",
            "every entry doubles the side; empty, channels are spread over pixels instead",
        )
    pixels = [4] * (stages - 1) + [1 if doublings else scale**2]
    for channels, heads, parts in zip(config.widths, config.num_heads, pixels, strict=True):
        _check_shares("widths", channels, "heads, `model.num_heads`", heads)
        _check_shares("widths", channels, "pixels that its channels are spread over", parts)
    return scale


def _check_discriminator(config: LadaGANConfig, shape: tuple[int, int, int]) -> int:
    """The side of the token grid; ConfigError where sizes do not fit."""
    _, height, width = shape
    factor = 2 ** (len(config.encoder_widths) - 1)
    grid = height // factor
    if height != width or height % (2 * factor) or grid < 2 * WINDOW:
        raise ConfigError(
            f"samples of {height}x{width} do not fit `model.encoder_widths` with "
            f"{len(config.encoder_widths)} entries",
            f"each but the first halves the side; an even {2 * WINDOW} or more must be left",
        )
    what, heads = "heads, `model.discriminator_heads`", config.discriminator_heads
    _check_shares("encoder_widths", config.encoder_widths[-1], what, heads)
    return grid


def _check_shares(name: str, channels: int, what: str, parts: int) -> None:
    if channels % parts:
        raise ConfigError(f"`model.{name}` holds {channels}, not a multiple of the {parts} {what}")
