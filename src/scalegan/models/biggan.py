"""BigGAN and BigGAN-deep: class-conditional convolutional GANs with spectral normalization.

Source: "Large Scale GAN Training for High Fidelity Natural Image Synthesis", arXiv 1809.11096, v2.
B width of a condition, O outputs, X and Y the next height and width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.models import BigGANConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import (
    Discriminator,
    DiscriminatorOutput,
    Generator,
    Labels,
    Levels,
    Samples,
)
from scalegan.layers.attention import PooledAttention
from scalegan.layers.batch_norm import BatchNorm, PlainNorm, standing_statistics
from scalegan.layers.spectral import Conv, Embedding, Linear, Normalizer, SpectralNorm, Table
from scalegan.layers.transformer import float32_island
from scalegan.layers.truncation import truncated_normal

# Widths in units of `channels`, from 4x4 to the side of a sample; sides below 32 are ours.
GENERATOR_WIDTHS = {
    8: (4, 4),
    16: (4, 4, 4),
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
# The same from the sample on, and how many stages halve the side.
DISCRIMINATOR_WIDTHS = {
    8: ((4, 4, 4), 1),
    16: ((4, 4, 4, 4), 2),
    32: ((4, 4, 4, 4), 2),
    64: ((1, 2, 4, 8, 16), 4),
    128: ((1, 2, 4, 8, 16, 16), 5),
    256: ((1, 2, 4, 8, 8, 16, 16), 6),
}


class Layer(NamedTuple):
    """What one residual block does."""

    inputs: int
    outputs: int
    resizes: bool = False
    attends: bool = False


def generator_layers(config: BigGANConfig, shape: tuple[int, int, int]) -> list[Layer]:
    """The generator's blocks for samples of a shape: a stage's last one doubles the side.

    Raises:
        ConfigError: if there are none for that side, or they do not fit the config.
    """
    widths = [config.channels * unit for unit in GENERATOR_WIDTHS.get(_side(shape), ())]
    layers: list[Layer] = []
    sides = [8 * 2**stage for stage in range(len(widths) - 1)]
    for side, (inputs, outputs) in zip(sides, pairwise(widths), strict=True):
        layers += [Layer(inputs, inputs)] * _extra(config)
        layers.append(Layer(inputs, outputs, True, side in config.generator_attention))
    _check(config, shape, layers, set(config.generator_attention) - set(sides))
    return layers


def discriminator_layers(config: BigGANConfig, shape: tuple[int, int, int]) -> list[Layer]:
    """The discriminator's blocks: the first one of most stages halves the side.

    Raises:
        ConfigError: if there are none for that side, or they do not fit the config.
    """
    units, num_halvings = DISCRIMINATOR_WIDTHS.get(_side(shape), ((), 0))
    widths = [] if config.is_deep else [shape[0]]  # the deep one has a stem
    widths += [config.channels * unit for unit in units]
    layers: list[Layer] = []
    sides = [shape[1] >> min(stage + 1, num_halvings) for stage in range(len(widths) - 1)]
    for stage, (inputs, outputs) in enumerate(pairwise(widths)):
        layers.append(Layer(inputs, outputs, stage < num_halvings))
        layers += [Layer(outputs, outputs)] * _extra(config)
        attends = sides[stage] in config.discriminator_attention
        layers[-1] = layers[-1]._replace(attends=attends)
    _check(config, shape, layers, set(config.discriminator_attention) - set(sides))
    return layers


def _side(shape: tuple[int, int, int]) -> int:
    return shape[1] if shape[1] == shape[2] else 0


def _extra(config: BigGANConfig) -> int:
    """Blocks of a stage that keep side and channels."""
    return config.blocks_per_stage - 1 if config.is_deep else 0


def _check(
    config: BigGANConfig, shape: tuple[int, int, int], layers: list[Layer], missed: set[int]
) -> None:
    """Raise ConfigError where the blocks do not fit the config, or a setting has no effect."""
    unused = ""
    if not config.is_deep and config.blocks_per_stage != 2:
        unused = "`model.blocks_per_stage` is set but only BigGAN-deep has several"
    elif config.is_deep and not config.is_wide:
        unused = "`model.is_wide` is off but the blocks of BigGAN-deep are bottlenecks"
    elif not config.has_spectral_norm and config.power_iterations * config.num_singular_values > 1:
        unused = "power iterations are set but `model.has_spectral_norm` is off"
    if unused:
        raise ConfigError(unused, "leave it out")
    if not layers:
        raise ConfigError(
            f"BigGAN makes no samples of {shape[1]}x{shape[2]}",
            "samples must be square, their side a power of two from 8 to 256",
        )
    if missed:
        raise ConfigError(
            f"attention is asked for at side {max(missed)}, which no block's output has",
            "see `model.generator_attention` and `model.discriminator_attention`",
        )
    for layer in layers:
        if layer.outputs < max(8 * layer.attends, 4 * config.is_deep):
            raise ConfigError(
                f"`model.channels` {config.channels} makes a block of {layer.outputs} channels, "
                "too few for attention (8) or bottlenecks (4)",
                "raise it, or attend at another side",
            )


class ConditionalNorm(BatchNorm):
    """Batch norm whose gain and bias are linear in a condition."""

    def __init__(self, config: BigGANConfig, condition_width: int, width: int) -> None:
        super().__init__(width, config.norm_eps)
        linear = partial(Linear, _normalizer(config), bias=False)
        # Without a shared embedding and a part of the noise, the condition is a one-hot class.
        make = linear if config.shared_width or config.is_hierarchical else Table
        self.gain, self.bias = make(condition_width, width), make(condition_width, width)

    def forward(self, x: Samples, condition: Float[Tensor, "N B"]) -> Samples:
        return self.normalize(x, 1 + self.gain(condition).float(), self.bias(condition))


Norm = Callable[[int], nn.Module]


def _attention(normal: Normalizer, layer: Layer) -> nn.Module:
    return PooledAttention(normal, layer.outputs) if layer.attends else nn.Identity()


class GeneratorBlock(nn.Module):
    """Two convolutions after conditional norms, beside a shortcut; doubles the side or keeps it."""

    def __init__(self, normal: Normalizer, layer: Layer, norm: Norm) -> None:
        super().__init__()
        inputs, outputs, resizes, _ = layer
        self.norm1, self.conv1 = norm(inputs), Conv(normal, inputs, outputs, 3)
        self.norm2, self.conv2 = norm(outputs), Conv(normal, outputs, outputs, 3)
        is_plain = inputs == outputs and not resizes
        self.shortcut = nn.Identity() if is_plain else Conv(normal, inputs, outputs, 1)
        self.resize = nn.Upsample(scale_factor=2) if resizes else nn.Identity()
        self.attention = _attention(normal, layer)

    def forward(self, x: Samples, condition: Float[Tensor, "N B"]) -> Float[Tensor, "N O X Y"]:
        branch = F.relu(self.norm1(x, condition))
        branch = self.conv1(self.resize(branch))
        branch = self.conv2(F.relu(self.norm2(branch, condition)))
        # A 1x1 convolution commutes with copies of pixels, and is four times cheaper before them.
        return self.attention(self.resize(self.shortcut(x)) + branch)


class DeepGeneratorBlock(nn.Module):
    """A bottleneck of four convolutions; the shortcut drops the channels that are too many."""

    def __init__(self, normal: Normalizer, layer: Layer, norm: Norm) -> None:
        super().__init__()
        inputs, self.outputs, resizes, _ = layer
        hidden = inputs // 4
        self.norm1, self.conv1 = norm(inputs), Conv(normal, inputs, hidden, 1)
        self.norm2, self.conv2 = norm(hidden), Conv(normal, hidden, hidden, 3)
        self.norm3, self.conv3 = norm(hidden), Conv(normal, hidden, hidden, 3)
        self.norm4, self.conv4 = norm(hidden), Conv(normal, hidden, self.outputs, 1)
        self.resize = nn.Upsample(scale_factor=2) if resizes else nn.Identity()
        self.attention = _attention(normal, layer)

    def forward(self, x: Samples, condition: Float[Tensor, "N B"]) -> Float[Tensor, "N O X Y"]:
        branch = self.conv1(F.relu(self.norm1(x, condition)))
        branch = F.relu(self.norm2(branch, condition))
        branch = self.conv2(self.resize(branch))
        branch = self.conv3(F.relu(self.norm3(branch, condition)))
        branch = self.conv4(F.relu(self.norm4(branch, condition)))
        x = x[:, : self.outputs]
        return self.attention(self.resize(x) + branch)


class DiscriminatorBlock(nn.Module):
    """Two convolutions beside a shortcut; halves the side or keeps it."""

    def __init__(self, normal: Normalizer, layer: Layer, is_first: bool, is_wide: bool) -> None:
        super().__init__()
        inputs, outputs, resizes, _ = layer
        self.is_first = is_first
        hidden = outputs if is_wide else inputs
        self.conv1 = Conv(normal, inputs, hidden, 3)
        self.conv2 = Conv(normal, hidden, outputs, 3)
        is_plain = inputs == outputs and not resizes
        self.shortcut = nn.Identity() if is_plain else Conv(normal, inputs, outputs, 1)
        self.resize = nn.AvgPool2d(2) if resizes else nn.Identity()
        self.attention = _attention(normal, layer)

    def forward(self, x: Samples) -> Float[Tensor, "N O X Y"]:
        branch = self.conv1(x if self.is_first else F.relu(x))  # a sample is not rectified
        branch = self.conv2(F.relu(branch))
        x, branch = self.resize(x), self.resize(branch)
        # The reference pools after all but the first 1x1 convolution: the same, at four times.
        return self.attention(self.shortcut(x) + branch)


class DeepDiscriminatorBlock(nn.Module):
    """A bottleneck of four convolutions; the shortcut makes the channels that are missing."""

    def __init__(self, normal: Normalizer, layer: Layer) -> None:
        super().__init__()
        inputs, outputs, resizes, _ = layer
        hidden = outputs // 4
        self.conv1 = Conv(normal, inputs, hidden, 1)
        self.conv2 = Conv(normal, hidden, hidden, 3)
        self.conv3 = Conv(normal, hidden, hidden, 3)
        self.conv4 = Conv(normal, hidden, outputs, 1)
        self.shortcut = Conv(normal, inputs, outputs - inputs, 1) if outputs > inputs else None
        self.resize = nn.AvgPool2d(2) if resizes else nn.Identity()
        self.attention = _attention(normal, layer)

    def forward(self, x: Samples) -> Float[Tensor, "N O X Y"]:
        branch = self.conv2(F.relu(self.conv1(F.relu(x))))
        branch = F.relu(self.conv3(F.relu(branch)))
        x, branch = self.resize(x), self.resize(branch)
        if self.shortcut is not None:
            x = torch.cat([x, self.shortcut(x)], dim=1)
        return self.attention(x + self.conv4(branch))


class BigGANGenerator(Generator):
    """Noise and a label in, one image out.

    The style w is the class vector, then z; where no class vector is shared, it is one-hot.

    Args:
        config: sizes.
        shape: (C, H, W) of a sample; H == W, from 8 to 512, a power of two.
        num_classes: 0 = unconditional: z alone is what the norms depend on.
        layers: the blocks, where they are not those of `generator_layers`.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    def __init__(
        self,
        config: BigGANConfig,
        shape: tuple[int, int, int],
        num_classes: int,
        layers: Sequence[Layer] | None = None,
    ) -> None:
        super().__init__()
        layers = layers or generator_layers(config, shape)
        is_split = config.is_hierarchical and not config.is_deep
        num_parts = len(layers) + 1 if is_split else 1
        _check_condition(config, num_parts, num_classes)
        self.config = config
        self.z_shape = (config.z_width,)
        self.num_levels = 1
        self.num_classes = num_classes
        self.class_width = num_classes and (config.shared_width or num_classes)
        part = config.z_width // num_parts
        condition_width = self.class_width + part * config.is_hierarchical
        normal = _normalizer(config)
        norm: Norm = partial(ConditionalNorm, config, condition_width)
        if not condition_width:
            norm = partial(PlainNorm, eps=config.norm_eps)
        is_shared = num_classes and config.shared_width
        self.shared = nn.Embedding(num_classes, config.shared_width) if is_shared else None
        self.stem = Linear(normal, condition_width if config.is_deep else part, 16 * layers[0][0])
        block = DeepGeneratorBlock if config.is_deep else GeneratorBlock
        self.blocks = nn.ModuleList(block(normal, layer, norm) for layer in layers)
        self.norm = PlainNorm(layers[-1].outputs, eps=1e-5)
        self.head = Conv(normal, layers[-1].outputs, shape[0], 3)
        self.apply(partial(_initialize, config.start))

    def map(self, z: Float[Tensor, "N Z"], labels: Labels) -> Float[Tensor, "N D"]:
        if not self.num_classes:
            return z
        one_hot = F.one_hot(labels, self.num_classes).to(z.dtype)
        return torch.cat([one_hot if self.shared is None else self.shared(labels), z], dim=1)

    def synthesize(self, w: Float[Tensor, "N D"]) -> Levels:
        first, conditions = self.split(w)
        x = self.stem(first).unflatten(1, (-1, 4, 4))  # (N, C, 4, 4)
        for block, condition in zip(self.blocks, conditions, strict=True):
            x = block(x, condition)
        x = self.head(F.relu(self.norm(x))).float()
        return (x.tanh() if self.config.has_tanh else x)[:, None]  # (N, 1, C, H, W)

    def split(
        self, w: Float[Tensor, "N D"]
    ) -> tuple[Float[Tensor, "N first"], list[Float[Tensor, "N B"]]]:
        """What the first layer sees, and what every block is conditioned on."""
        count = len(self.blocks)
        if self.config.is_deep:
            return w, [w] * count
        classes, z = w[:, : self.class_width], w[:, self.class_width :]
        if not self.config.is_hierarchical:
            return z, [classes] * count
        first, *chunks = z.chunk(count + 1, dim=1)
        return first, [torch.cat([classes, chunk], dim=1) for chunk in chunks]

    def orthogonal_weights(self) -> list[Tensor]:
        """All matrices but the shared class embedding (arXiv 1809.11096, section 3.1)."""
        return [p for n, p in self.named_parameters() if p.ndim > 1 and n != "shared.weight"]

    def truncate_noise(self, z: Float[Tensor, "N Z"], threshold: float) -> Float[Tensor, "N Z"]:
        """Redraw what lies beyond the threshold, from the normal within it.

        Raises:
            ConfigError: if the threshold is not positive.
        """
        if not threshold > 0:
            raise ConfigError(f"a threshold of {threshold} leaves no noise; it must be positive")
        return truncated_normal(z, threshold)

    @torch.no_grad()
    def calibrate(self, z: Float[Tensor, "N Z"], labels: Labels, batch_size: int = 64) -> None:
        """Set the norms' statistics to their plain means over batches of these inputs.

        Args:
            z: noise as it will be sampled, truncated or not; some 16 batches or more.
            labels: of all classes.
            batch_size: of one forward.
        """
        with standing_statistics(self):
            for part in zip(z.split(batch_size), labels.split(batch_size), strict=True):
                self(*part)


class BigGANDiscriminator(Discriminator):
    """One logit: an affine map of the summed features, plus their product with the class vector.

    Args:
        config: sizes.
        shape: (C, H, W) of a sample; H == W, from 8 to 256, a power of two.
        num_classes: 0 = the affine map alone.
        features: must be 0: there is no projector to align with a teacher.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    def __init__(
        self,
        config: BigGANConfig,
        shape: tuple[int, int, int],
        num_classes: int,
        features: int = 0,
    ) -> None:
        super().__init__()
        if features:
            raise ConfigError(
                "BigGAN's discriminator has no features to align with a teacher",
                "leave out `objective.alignment`",
            )
        layers, normal = discriminator_layers(config, shape), _normalizer(config)
        width = layers[-1].outputs
        if config.is_deep:
            self.stem: nn.Module = Conv(normal, shape[0], layers[0].inputs, 3)
            blocks: list[nn.Module] = [DeepDiscriminatorBlock(normal, layer) for layer in layers]
        else:
            self.stem = nn.Identity()
            blocks = [
                DiscriminatorBlock(normal, layer, i == 0, config.is_wide)
                for i, layer in enumerate(layers)
            ]
        self.blocks = nn.ModuleList(blocks)
        self.head = Linear(normal, width, 1)
        self.classes = Embedding(normal, num_classes, width) if num_classes else None
        self.apply(partial(_initialize, config.start))

    # D(x, y) = v_y . phi(x) + psi(phi(x)), psi affine (projection, arXiv 1802.05637, section 3)
    def forward(
        self, samples: Levels, labels: Labels, with_features: bool = False
    ) -> DiscriminatorOutput:
        x = self.stem(samples[:, -1])
        for block in self.blocks:
            x = block(x)
        with float32_island(x.device):
            x = F.relu(x).float().sum(dim=(2, 3))  # (N, C): the sum, not the mean
            logits = self.head(x)
            if self.classes is not None:
                logits = logits + (self.classes(labels) * x).sum(dim=1, keepdim=True)
        return DiscriminatorOutput(logits, None)


def _normalizer(config: BigGANConfig) -> Normalizer:
    if not config.has_spectral_norm:
        return lambda rows: nn.Identity()
    iterations, num_values = config.power_iterations, config.num_singular_values
    return partial(
        SpectralNorm, eps=config.spectral_eps, iterations=iterations, num_values=num_values
    )


def _initialize(start: str, module: nn.Module) -> None:
    """Weights, as matrices; biases keep the library's start, as in the authors' code."""
    if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
        draw = nn.init.orthogonal_ if start == "orthogonal" else partial(nn.init.normal_, std=0.02)
        draw(module.weight)


def _check_condition(config: BigGANConfig, num_parts: int, num_classes: int) -> None:
    """Raise ConfigError where noise and classes cannot reach the blocks as asked for."""
    if config.z_width % num_parts:
        raise ConfigError(
            f"`model.z_width` {config.z_width} is not a multiple of {num_parts}",
            "the first layer and every block get an equal part of the noise",
        )
    if config.is_deep and not config.is_hierarchical:
        raise ConfigError(
            "`model.is_hierarchical` is off but BigGAN-deep gives the noise to every block"
        )
    if num_classes and config.is_hierarchical and not config.shared_width:
        raise ConfigError(
            "`model.shared_width` is 0 but blocks that get a part of the noise share one embedding",
            "set it, or switch `model.is_hierarchical` off",
        )
