"""From noise to latents: StyleGAN's mapping network, and the running mean that truncation needs.

Source: StyleGAN2 (arXiv 1912.04958, v2); GANsformer (arXiv 2103.01209) adds skips and local
components, which may attend to each other. k components, R = k + 1 latents (the last is global) of
width D, Y layers that read a style of their own, Z channels of the noise.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.interfaces import Labels
from scalegan.layers.bipartite import BipartiteAttention
from scalegan.layers.stylegan import ScaledLinear, leaky
from scalegan.layers.transformer import normalize_second_moment

Styles = Float[Tensor, "N R Y D"]
Keep = Sequence[Float[Tensor, "N A _ _"] | None]
"""Dropout of each layer's attention."""


class MappingNetwork(nn.Module):
    """Fully connected layers; the k latents share them and may attend to each other in between.

    Args:
        inputs, width: channels that come in and go out.
        depth: layers, without the last one; residual, two of them make a block.
        is_residual: whether blocks have a skip.
        num_latents: latents that attend to each other before every layer or block; 0 = none do.
        num_heads, dropout: of that attention.
        has_positions: whether latents have positions there.
    """

    multiplier = 0.01  # of the learning rate

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        is_residual: bool,
        num_latents: int = 0,
        num_heads: int = 1,
        has_positions: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        depth = (depth + 1) // 2 if is_residual else depth
        # docs/deviations.md, `mapping-stem`: the authors' code cannot build a residual network
        # whose input has another width.
        has_stem = is_residual and inputs != width
        self.stem = ScaledLinear(inputs, width, self.multiplier) if has_stem else None
        widths = [width if is_residual else inputs, *[width] * (depth - 1)]
        self.first = nn.ModuleList(ScaledLinear(w, width, self.multiplier) for w in widths)
        self.second = nn.ModuleList(
            ScaledLinear(width, width, self.multiplier) for _ in (widths if is_residual else [])
        )
        self.attention = nn.ModuleList(
            BipartiteAttention(
                w,
                w,
                width,
                num_latents,
                num_latents,
                num_heads=num_heads,
                has_grid=has_positions,
                has_positions=has_positions,
                integration="add",
                norm="none",
                dropout=dropout,
            )
            for w in (widths if num_latents else [])
        )
        self.out = ScaledLinear(width, width, self.multiplier)

    def forward(
        self,
        x: Float[Tensor, "N k Z"],
        positions: Float[Tensor, "k D"] | None,
        keep: Keep | None = None,
    ) -> Float[Tensor, "N k D"]:
        if self.stem is not None:
            x = leaky(self.stem(x))
        for i, first in enumerate(self.first):
            skip = x  # past the attention too
            if self.attention:
                kept = keep[i] if keep else None
                x, *_ = self.attention[i](x, x, positions, positions, kept)
            x = leaky(first(x))
            if self.second:
                x = leaky(self.second[i](x) + skip, gain=1.0)
        return leaky(self.out(x))

    def draw_dropout(self, count: int) -> Keep:
        """Dropout of the attention before every layer."""
        return [
            layer.draw_dropout(count)
            for layer in self.attention
            if isinstance(layer, BipartiteAttention)
        ]


class Mapping(nn.Module):
    """Noise to latents, and their running mean, which all of them share.

    Where no style modulates, nothing but that mean reads the global latent: its network then stays
    as it started (docs/deviations.md, `unstyled`).

    Args:
        labels: an affine map of one-hot classes to the width of the noise; None without classes.
        for_global: of the last noise vector, beside it the label's.
        for_components: of all others; None where there are none.
        width: channels of a latent.
        decay: of the running mean.
    """

    mean: Float[Tensor, " D"]
    updates: Float[Tensor, ""]

    def __init__(
        self,
        labels: ScaledLinear | None,
        for_global: MappingNetwork,
        for_components: MappingNetwork | None,
        width: int,
        decay: float,
    ) -> None:
        super().__init__()
        self.labels, self.for_global, self.for_components = labels, for_global, for_components
        self.decay = decay
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("updates", torch.zeros(()))

    def forward(
        self,
        z: Float[Tensor, "N R Z"],
        labels: Labels,
        positions: Float[Tensor, "k D"] | None,
        keep: Keep | None = None,
    ) -> Float[Tensor, "N R D"]:
        rows, local = [], z[:, :-1]
        if self.for_components is not None:
            # Over all components jointly (docs/deviations.md, `kept`).
            x = normalize_second_moment(local.flatten(1)).view_as(local)
            rows.append(self.for_components(x, positions, keep))
        parts = [normalize_second_moment(z[:, -1])]
        if self.labels is not None:
            one_hot = F.one_hot(labels, self.labels.weight.shape[1]).to(z.dtype)
            parts.append(normalize_second_moment(self.labels(one_hot)))
        rows.append(self.for_global(torch.cat(parts, dim=-1)[:, None], None))
        return torch.cat(rows, dim=1)

    def draw_dropout(self, count: int) -> Keep:
        """Dropout of the components' attention to each other."""
        return [] if self.for_components is None else self.for_components.draw_dropout(count)

    @torch.no_grad()
    def track(self, w: Styles) -> None:
        mean = w.flatten(0, -2).mean(dim=0).to(self.mean.dtype)
        self.mean.lerp_(mean, 1 - self.decay)
        self.updates += 1

    def truncate(self, w: Styles, psi: float) -> Styles:
        # docs/deviations.md, `latent-mean`: it starts at zero; divide by what it has seen.
        mean = self.mean / (1 - self.decay**self.updates).clamp(min=1e-8)
        return torch.where(self.updates > 0, torch.lerp(mean.expand_as(w), w, psi), w)
