"""CAT's discriminator: every level is judged at a scale of its own, by one transformer.

Source: "CAT", arXiv 2605.26449. Its authors' code is not public; sizes, scales and what a scale has
of its own follow an independent account that nobody has verified (docs/deviations.md, `cat`). The
generator is GAT's.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.models import GATConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import Discriminator, DiscriminatorOutput, Labels, Levels
from scalegan.layers.transformer import float32_island, position_table, rotary_table
from scalegan.models.gat import (
    DiscriminatorBlock,
    LabelTable,
    check_sizes,
    initialize,
    make_label_mapping,
    make_projector,
)


class Scale(nn.Module):
    """What one scale has of its own: positions, a vector that marks it, and a class token."""

    rotary: Float[Tensor, "T R 2"]

    def __init__(self, grid: int, width: int, head_width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(position_table(width, grid)[None])
        self.mark = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.register_buffer("rotary", rotary_table(head_width, grid), persistent=False)

    def forward(self, patches: Float[Tensor, "N D G G"]) -> Float[Tensor, "N S D"]:
        x = patches.flatten(2).mT + self.position + self.mark
        return torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)


class CATDiscriminator(Discriminator):
    """L levels of a sample and a label in; one logit per level out, coarse to fine.

    The last level is judged at its full side, each one before it at half the side of the next. The
    sequences of the scales pass the same blocks, without attention to each other.

    Args:
        config: sizes, resolved.
        shape: (C, H, W) of a sample; H == W, a multiple of the patch size at every scale.
        num_classes: 0 = unconditional: as if all samples were of one class.
        features: width of the features that a teacher aligns, at the finest scale; 0 = none.

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
        size, self.patch_size = config.discriminator_size, config.patch_size
        check_sizes(size, config, shape)
        coarsest = config.patch_size * 2 ** (config.num_levels - 1)
        if shape[1] % coarsest:
            raise ConfigError(
                f"samples of side {shape[1]} do not divide into {config.num_levels} scales of "
                f"patches of {config.patch_size}",
                f"their side must be a multiple of {coarsest}; set `model.num_levels` lower",
            )
        width, grid = size.width, shape[1] // config.patch_size
        self.patches = nn.Conv2d(shape[0], width, self.patch_size, stride=self.patch_size)
        self.grids = [grid // 2**halvings for halvings in reversed(range(config.num_levels))]
        self.scales = nn.ModuleList(
            Scale(grid, width, width // size.num_heads) for grid in self.grids
        )
        self.labels = LabelTable(num_classes, config.label_width)
        self.label_mapping = make_label_mapping(config.label_width)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(width, size.num_heads, config.mlp_ratio, config.layer_scale)
            for _ in range(size.depth)
        )
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.label_width)
        self.projector = make_projector(width, config.projector_width, features)
        self.apply(initialize)
        nn.init.normal_(self.labels.weight, std=0.02)

    def forward(
        self, samples: Levels, labels: Labels, with_features: bool = False
    ) -> DiscriminatorOutput:
        tokens = [
            scale(self.patches(self.resized(level, grid)))
            for level, grid, scale in zip(samples.unbind(1), self.grids, self.scales, strict=True)
        ]
        for block in self.blocks[:-1]:
            tokens = [block(x, s.rotary) for x, s in zip(tokens, self.scales, strict=True)]
        last = len(tokens) - 1
        # A logit reads its class token alone; features are those of all tokens of the finest scale.
        tokens = [
            self.blocks[-1](x, scale.rotary, first_only=not (with_features and i == last))
            for i, (x, scale) in enumerate(zip(tokens, self.scales, strict=True))
        ]
        features = None
        if with_features:
            assert self.projector is not None, "made with features=0"
            features = self.projector(tokens[last]).float()
        with float32_island(samples.device):  # as in GAT: a penalty divides by 0.01
            class_tokens = torch.stack([x[:, 0].float() for x in tokens], dim=1)  # (N, L, D)
            image_vectors = self.head(self.norm(class_tokens))  # (N, L, E)
            label_vector = self.label_mapping(self.labels(labels))  # (N, E)
            logits = (image_vectors * label_vector[:, None]).sum(dim=2)  # (N, L)
        return DiscriminatorOutput(logits, features)

    def resized(self, level: Float[Tensor, "N C H W"], grid: int) -> Float[Tensor, "N C G G"]:
        """A level at the side that a grid of patches covers."""
        side = grid * self.patch_size
        if side == level.shape[-1]:
            return level
        return F.interpolate(level, size=(side, side), mode="bilinear", align_corners=False)
