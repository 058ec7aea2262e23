"""GAT: a class-conditional GAN of two plain transformers on autoencoder latents.

Source: "Scalable GANs with Transformers", arXiv 2509.24935 (v1), ICML 2026, and its authors' code,
whose start values these are. p patch side, T = (H/p)^2 tokens, R rotary angles per token, E width
of the discriminator's label vector.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.models import GATConfig, Size
from scalegan.errors import ConfigError
from scalegan.interfaces import Discriminator, DiscriminatorOutput, Generator, Labels, Levels
from scalegan.layers.attention import SelfAttention
from scalegan.layers.transformer import (
    EqualizedLinear,
    SwiGLU,
    float32_island,
    normalize_second_moment,
    position_table,
    rotary_table,
    unpatchify,
)


class GeneratorBlock(nn.Module):
    """Attention, then feed-forward, each scaled before and gated after by the style w."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = SelfAttention(width, num_heads)
        self.feedforward = SwiGLU(width, mlp_ratio)
        self.modulation = nn.Linear(width, 4 * width)

    def forward(
        self, x: Float[Tensor, "N T D"], w: Float[Tensor, "N D"], rotary: Float[Tensor, "T R 2"]
    ) -> Float[Tensor, "N T D"]:
        scale_a, gate_a, scale_f, gate_f = self.modulation(F.silu(w))[:, None].chunk(4, dim=-1)
        x = x + gate_a * self.attention(self.norm(x) * (1 + scale_a), rotary)  # gates: (N, 1, D)
        x = x + gate_f * self.feedforward(self.norm(x) * (1 + scale_f))
        return x


class Head(nn.Module):
    """Tokens to one level's contribution to the image, scaled by the style."""

    def __init__(self, width: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm = nn.RMSNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, width)
        self.linear = nn.Linear(width, patch_size**2 * channels)

    def forward(
        self, x: Float[Tensor, "N T D"], w: Float[Tensor, "N D"]
    ) -> Float[Tensor, "N C H W"]:
        x = self.norm(x) * (1 + self.modulation(F.silu(w)))[:, None]
        return unpatchify(self.linear(x), self.patch_size).float()


class LabelTable(nn.Embedding):
    """A vector per class; without classes, one vector for all labels."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__(max(1, num_classes), width)
        self.has_classes = num_classes > 0

    def forward(self, labels: Labels) -> Float[Tensor, "N E"]:
        return super().forward(self.rows(labels))

    def rows(self, labels: Labels) -> Labels:
        return labels if self.has_classes else torch.zeros_like(labels)


class GATGenerator(Generator):
    """Noise and a label in, L images out, each the sum of the heads so far.

    Args:
        config: sizes, resolved.
        shape: (C, H, W) of a sample; H == W, a multiple of the patch size.
        num_classes: 0 = unconditional: as if all samples were of one class.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    style_mean: Float[Tensor, "K D"]
    style_updates: Float[Tensor, " K"]

    def __init__(self, config: GATConfig, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        check_sizes(Size(config.width, config.depth, config.num_heads), config, shape)
        if config.depth % config.num_levels:
            raise ConfigError(
                f"`model.depth` {config.depth} is not a multiple of `model.num_levels` "
                f"{config.num_levels}",
                "every level needs the same number of blocks",
            )
        width, grid = config.width, shape[1] // config.patch_size
        self.z_shape = (config.z_width,)
        self.num_levels = config.num_levels
        self.num_classes = num_classes
        self.style_decay = config.style_decay
        self.position = nn.Parameter(torch.empty(1, grid**2, width))
        self.labels = LabelTable(num_classes, config.z_width)
        self.mapping = nn.Sequential(
            EqualizedLinear(2 * config.z_width, width), nn.SiLU(), EqualizedLinear(width, width)
        )
        self.blocks = nn.ModuleList(
            GeneratorBlock(width, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.heads = nn.ModuleList(
            Head(width, config.patch_size, shape[0]) for _ in range(config.num_levels)
        )
        rotary = rotary_table(width // config.num_heads, grid)
        self.register_buffer("rotary", rotary, persistent=False)
        self.register_buffer("style_mean", torch.zeros(len(self.labels.weight), width))
        self.register_buffer("style_updates", torch.zeros(len(self.labels.weight)))
        self.initialize(grid, config.modulation_gain)

    def initialize(self, grid: int, modulation_gain: float) -> None:
        """Draw the start values."""
        self.apply(initialize)
        with torch.no_grad():
            self.position.copy_(position_table(self.position.shape[-1], grid))
        nn.init.normal_(self.labels.weight, std=0.02)
        for module in [*self.blocks, *self.heads]:
            # As published (0.1), blocks start almost unmodulated; the gates are not 1 + gate.
            nn.init.xavier_uniform_(module.modulation.weight, gain=modulation_gain)

    def map(self, z: Float[Tensor, "N Z"], labels: Labels) -> Float[Tensor, "N D"]:
        parts = [normalize_second_moment(part) for part in (self.labels(labels), z)]
        return self.mapping(torch.cat(parts, dim=-1))

    def synthesize(self, w: Float[Tensor, "N D"]) -> Levels:
        x = self.position.expand(w.shape[0], -1, -1)  # (N, T, D): the grid is the only input
        depth_per_level = len(self.blocks) // self.num_levels
        levels: list[Tensor] = []
        for i, block in enumerate(self.blocks, start=1):
            x = block(x, w, self.rotary)
            if i % depth_per_level == 0:
                detail = self.heads[len(levels)](x, w)  # (N, C, H, W)
                levels.append(levels[-1] + detail if levels else detail)
        return torch.stack(levels, dim=1)  # (N, L, C, H, W), coarse to fine

    @torch.no_grad()
    def track(self, w: Float[Tensor, "N D"], labels: Labels) -> None:
        """Move the running mean of every class in the batch towards the mean of its styles."""
        labels = self.labels.rows(labels)
        sums = torch.zeros_like(self.style_mean).index_add_(0, labels, w.to(self.style_mean.dtype))
        counts = torch.bincount(labels, minlength=len(self.style_mean))
        mean = sums / counts.clamp(min=1)[:, None]
        step = (1 - self.style_decay) * (counts > 0)
        self.style_mean.lerp_(mean, step[:, None].to(mean.dtype))
        self.style_updates += counts > 0

    def truncate(self, w: Float[Tensor, "N D"], labels: Labels, psi: float) -> Float[Tensor, "N D"]:
        labels = self.labels.rows(labels)
        # docs/deviations.md, `style-mean`: running means start at zero; divide by what they saw.
        seen = 1 - self.style_decay ** self.style_updates[labels]  # (N,), 0 for unseen classes
        mean = self.style_mean[labels] / seen.clamp(min=1e-8)[:, None]
        return torch.where(seen[:, None] > 0, mean + psi * (w - mean), w)

    def guide(
        self,
        w: Float[Tensor, "N D"],
        z: Float[Tensor, "N Z"],
        scale: float | Float[Tensor, " N"],
        official: bool = False,
    ) -> Float[Tensor, "N D"]:
        """Push styles away from their mean over all classes; scale = 1 changes nothing.

        Args:
            official: normalize over the class axis, as the authors' code does
                (docs/deviations.md, `class-axis`).
        """
        scale = torch.as_tensor(scale, dtype=w.dtype, device=w.device).view(-1, 1)
        mean = self.mean_over_classes(z, official)
        return mean + scale * (w - mean)

    @torch.no_grad()
    def mean_over_classes(
        self, z: Float[Tensor, "N Z"], official: bool = False
    ) -> Float[Tensor, "N D"]:
        """The mean of `map(z, label)` over all labels, without N * K full mappings.

        The first layer splits into a label part and a noise part, and the last one is affine, so
        the mean is taken before it.
        """
        first, activation, last = self.mapping
        assert isinstance(first, EqualizedLinear)
        labels = normalize_second_moment(self.labels.weight, dim=0 if official else -1)
        # Over a class axis along which z is constant, the mean square of z is its own square.
        z = z * torch.rsqrt(z.square() + 1e-8) if official else normalize_second_moment(z)
        weight, bias = first.weight * first.multiplier, first.bias * first.multiplier
        of_labels, of_noise = weight.split([labels.shape[1], z.shape[1]], dim=1)
        noise = F.linear(z, of_noise, bias)
        total = torch.zeros_like(noise)
        for some in F.linear(labels, of_labels).split(64):  # bounds memory at N * 64 rows
            total += activation(some + noise[:, None]).sum(dim=1)
        return last(total / len(labels))


class DiscriminatorBlock(nn.Module):
    """Attention, then feed-forward, each with a norm before and a learned scale after."""

    def __init__(
        self, width: int, num_heads: int, mlp_ratio: float, layer_scale: float = 0.1
    ) -> None:
        super().__init__()
        self.layer_scale = layer_scale
        self.norm_a = nn.RMSNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, num_heads)
        self.scale_a = nn.Parameter(torch.empty(width))
        self.norm_f = nn.RMSNorm(width, eps=1e-6)
        self.feedforward = SwiGLU(width, mlp_ratio)
        self.scale_f = nn.Parameter(torch.empty(width))

    def forward(
        self,
        x: Float[Tensor, "N S D"],
        rotary: Float[Tensor, "T R 2"],
        first_only: bool = False,
    ) -> Float[Tensor, "N Q D"]:
        attended = self.attention(self.norm_a(x), rotary, first_only)
        x = (x[:, :1] if first_only else x) + self.scale_a * attended
        return x + self.scale_f * self.feedforward(self.norm_f(x))


class GATDiscriminator(Discriminator):
    """L images of a sample, stacked on the channel axis, and a label in; one logit out.

    Args:
        config: sizes, resolved.
        shape: (C, H, W) of a sample; H == W, a multiple of the patch size.
        num_classes: 0 = unconditional: as if all samples were of one class.
        features: width of the features that a teacher aligns; 0 = no projector.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    def __init__(
        self,
        config: GATConfig,
        shape: tuple[int, int, int],
        num_classes: int,
        features: int = 0,
    ) -> None:
        super().__init__()
        size = config.discriminator_size
        check_sizes(size, config, shape)
        width, patch = size.width, config.patch_size
        grid = shape[1] // patch
        self.position = nn.Parameter(torch.empty(1, grid**2, width))
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.patches = nn.Conv2d(config.num_levels * shape[0], width, patch, stride=patch)
        self.labels = LabelTable(num_classes, config.label_width)
        self.label_mapping = make_label_mapping(config.label_width)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(width, size.num_heads, config.mlp_ratio, config.layer_scale)
            for _ in range(size.depth)
        )
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.label_width)
        self.projector = make_projector(width, config.projector_width, features)
        rotary = rotary_table(width // size.num_heads, grid)
        self.register_buffer("rotary", rotary, persistent=False)
        self.initialize(grid)

    def initialize(self, grid: int) -> None:
        """Draw the start values."""
        self.apply(initialize)
        with torch.no_grad():
            self.position.copy_(position_table(self.position.shape[-1], grid))
        nn.init.normal_(self.class_token, std=0.02)
        nn.init.normal_(self.labels.weight, std=0.02)

    def forward(
        self, samples: Levels, labels: Labels, with_features: bool = False
    ) -> DiscriminatorOutput:
        x = self.patches(samples.flatten(1, 2))  # (N, D, G, G); coarsest level first
        x = x.flatten(2).mT + self.position  # (N, T, D)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)  # (N, 1 + T, D)
        for block in self.blocks[:-1]:
            x = block(x, self.rotary)
        # The logit reads the class token alone, so the last block need not make the others.
        x = self.blocks[-1](x, self.rotary, first_only=not with_features)
        features = None
        if with_features:
            assert self.projector is not None, "made with features=0"
            features = self.projector(x).float()
        # The penalty divides a difference of logits by 0.01: these products stay float32.
        with float32_island(x.device):
            image_vector = self.head(self.norm(x[:, 0].float()))  # (N, E)
            label_vector = self.label_mapping(self.labels(labels))  # (N, E)
            # D(x, y) = <head(x), e(y)>: no 1/sqrt(E), no unconditional term.
            logits = (image_vector * label_vector).sum(dim=1, keepdim=True)
        return DiscriminatorOutput(logits, features)


def make_label_mapping(width: int) -> nn.Sequential:
    """Two layers from the table's vector of a label to the one that logits are products with."""
    return nn.Sequential(EqualizedLinear(width, width), nn.SiLU(), EqualizedLinear(width, width))


def make_projector(width: int, hidden: int, features: int) -> nn.Sequential | None:
    """Three layers from tokens to features that a teacher aligns; None where there are none."""
    if not features:
        return None
    layers = [nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, features))


def initialize(module: nn.Module) -> None:
    """Draw the start values of one layer."""
    if isinstance(module, EqualizedLinear):
        module.reset_parameters()
    elif isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.flatten(1))  # a patch embedding as one matrix
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, DiscriminatorBlock):
        nn.init.constant_(module.scale_a, module.layer_scale)
        nn.init.constant_(module.scale_f, module.layer_scale)


def check_sizes(size: Size, config: GATConfig, shape: tuple[int, int, int]) -> None:
    """Raise ConfigError where the sizes do not fit together."""
    _, height, width = shape
    if height != width or height % config.patch_size:
        raise ConfigError(
            f"samples of {height}x{width} do not fit `model.patch_size` {config.patch_size}",
            "samples must be square, their side a multiple of the patch size",
        )
    if int(2 * config.mlp_ratio * size.width / 3) < 1:
        raise ConfigError(
            f"`model.mlp_ratio` {config.mlp_ratio} leaves no hidden units at width {size.width}",
            "4 is usual",
        )
    if size.num_heads < 1 or size.width % (4 * size.num_heads) or size.width < 4:
        raise ConfigError(
            f"a width of {size.width} is not a multiple of four times its {size.num_heads} heads",
            "rotary positions turn channel pairs by row and by column",
        )
