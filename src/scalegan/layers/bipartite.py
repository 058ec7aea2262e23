"""Bipartite attention: the positions of a map look at a few latents, which modulate them.

Also the mapping network, in which the latents look at each other by the same layer.

Source: GANsformer, arXiv 2103.01209, and its authors' PyTorch code. k latents of width D, A heads,
T positions of a map, P channels of a position.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.config.models import GANsformerConfig
from scalegan.layers.transformer import ScaledLinear, leaky

Attention = Float[Tensor, "N A T k"]
Assignments = Float[Tensor, "N A k _"]
"""Of positions to centroids; another layer's map may have fewer positions."""


class Gate(nn.Module):
    """How much of its attention each element keeps, per head."""

    def __init__(self, width: int, position: int, num_heads: int, offset: float) -> None:
        super().__init__()
        self.offset = offset
        self.content = ScaledLinear(width, num_heads)
        self.position = ScaledLinear(position, num_heads) if position else None

    def forward(
        self, x: Float[Tensor, "N T C"], position: Float[Tensor, "T P"] | None
    ) -> Float[Tensor, "N A T"]:
        openness = self.content(x) + self.offset
        if self.position is not None:
            openness = openness + self.position(position)
        return openness.sigmoid().mT


class BipartiteAttention(nn.Module):
    """The positions of a map gather from latents, and what they gather modulates them.

    Simplex: the attention is the softmax of queries and keys over the latents. Duplex as published:
    that of pixels and centroids, so that latents enter through their values alone. The reference's
    keys and latent positions are then without effect (quirk 1) and left out here.

    Args:
        config: what the layer does; its widths are given apart.
        width, latent, position: channels of the map, of the latents, of positions.
        num_latents, num_pixels: how many there are of both.
        has_grid, has_positions: whether pixels and latents know where they are.
        is_first: whether no other layer hands its assignments on to this one.
    """

    def __init__(
        self,
        config: GANsformerConfig,
        width: int,
        latent: int,
        position: int,
        num_latents: int,
        num_pixels: int,
        has_grid: bool = True,
        has_positions: bool = True,
        is_first: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.num_latents, self.num_pixels = config, num_latents, num_pixels
        heads, to_latents = config.num_heads, position if has_positions else 0
        self.queries = ScaledLinear(width, width)
        self.values = ScaledLinear(latent, width)
        self.grid_map = ScaledLinear(position, width) if has_grid else None
        self.is_duplex = config.attention == "duplex"
        if self.is_duplex:
            self.element_weight = nn.Parameter(torch.ones(heads, 1, 2 * width // heads))
            self.centroids, self.first_centroids = None, None
            # Deviation: the reference knows the second kind alone and crashes, or mixes samples,
            # where queries do not divide evenly into centroids (quirk 2).
            fits = num_pixels * heads == 2 * num_latents
            if config.carries_assignments and is_first and fits:
                self.first_centroids = ScaledLinear(width, width * heads)
            elif not config.carries_assignments or is_first:
                start = torch.randn(1, heads, num_latents, 2 * width // heads)
                self.centroids = nn.Parameter(start)
        else:
            self.keys = ScaledLinear(latent, width)
            self.position_map = ScaledLinear(position, width) if has_positions else None
        self.component_gate, self.pixel_gate = None, None
        if config.component_gate:
            self.component_gate = Gate(latent, to_latents, heads, 0.0)
        if config.pixel_gate:
            self.pixel_gate = Gate(width, position if has_grid else 0, heads, 1.0)
        self.modulation = ScaledLinear(width, width * (2 if config.integration == "both" else 1))

    def forward(
        self,
        x: Float[Tensor, "N T C"],
        latents: Float[Tensor, "N k D"],
        grid: Float[Tensor, "T P"] | None,
        positions: Float[Tensor, "k P"] | None,
        keep: Attention | None = None,
        carried: Assignments | None = None,
        mask: Float[Tensor, "N k"] | None = None,
    ) -> tuple[Float[Tensor, "N T C"], Attention, Assignments | None]:
        """Modulate x.

        Args:
            keep: factors of the attention that `draw` made; None drops nothing.
            carried: assignments of the preceding layer, where they are carried.
            mask: 0 where a latent is out of sight.

        Returns:
            The new x, the attention, and the assignments of pixels to centroids (duplex).
        """
        content = self.queries(x)
        place = torch.zeros_like(content)
        if self.grid_map is not None:
            place = place + self.grid_map(grid)
        if self.is_duplex:
            elements = self.split(torch.cat([content, place], dim=-1))
            centroids = self.start(elements, content + place, carried)
            attention, assignments = self.cluster(elements, centroids, mask)
        else:
            keys = self.keys(latents)
            if self.position_map is not None:
                keys = keys + self.position_map(positions)
            attention = self.attend(self.split(content + place), self.split(keys), mask)
            assignments = None
        if self.component_gate is not None:
            attention = attention * self.component_gate(latents, positions)[:, :, None]
        if self.pixel_gate is not None:
            attention = attention * self.pixel_gate(x, grid)[..., None]
        kept = attention if keep is None else attention * keep
        context = (kept @ self.split(self.values(latents))).transpose(1, 2).flatten(2)
        return self.integrate(x, context), attention, assignments

    def split(self, x: Float[Tensor, "N T C"]) -> Float[Tensor, "N A T h"]:
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)

    def attend(
        self,
        seekers: Float[Tensor, "N A T h"],
        sought: Float[Tensor, "#N A k h"],
        mask: Float[Tensor, "N k"] | None,
    ) -> Attention:
        head_width = self.queries.weight.shape[0] // self.config.num_heads
        scores = seekers @ sought.mT / math.sqrt(head_width)
        if mask is not None:
            scores = scores - 10000 * (1 - mask)[:, None, None]
        return scores.softmax(dim=-1)

    def start(
        self,
        elements: Float[Tensor, "N A T h"],
        queries: Float[Tensor, "N T C"],
        carried: Assignments | None,
    ) -> Float[Tensor, "#N A k h"]:
        """The centroids that clustering starts from."""
        if self.centroids is not None:
            return self.centroids
        if self.first_centroids is not None:
            flat = self.first_centroids(queries).flatten(1)  # (N, T * A * C) = (N, k * 2C)
            return self.split(flat.unflatten(1, (self.num_latents, -1)))
        assert carried is not None, "the layer before hands them on"
        if carried.shape[-1] != elements.shape[2]:  # the side has doubled; rows now sum to 4
            side = math.isqrt(carried.shape[-1])
            maps = carried.flatten(0, 1).unflatten(-1, (side, side))
            maps = F.interpolate(maps, size=math.isqrt(elements.shape[2]), mode="nearest")
            carried = maps.flatten(2).unflatten(0, elements.shape[:2])
        return carried @ elements

    def cluster(
        self,
        elements: Float[Tensor, "N A T h"],
        centroids: Float[Tensor, "#N A k h"],
        mask: Float[Tensor, "N k"] | None,
    ) -> tuple[Attention, Assignments]:
        """Assign elements to centroids softly, and move those to the means in between."""
        seekers = elements * self.element_weight
        attention = self.attend(seekers, centroids, mask)
        for _ in range(self.config.clusterings - 1):
            attention = self.attend(seekers, assign(attention) @ elements, mask)
        return attention, assign(attention)

    def integrate(
        self, x: Float[Tensor, "N T C"], context: Float[Tensor, "N T C"]
    ) -> Float[Tensor, "N T C"]:
        """Normalize x and let an affine map of what was gathered scale it, move it, or both."""
        kind, control = self.config.integration, self.modulation(context)
        if self.config.norm != "none":
            dim = -1 if self.config.norm == "layer" else 1
            if kind != "multiply":
                x = x - x.mean(dim=dim, keepdim=True)
            if kind != "add":  # alone, it divides by the root mean square without centering
                x = x * torch.rsqrt(x.square().mean(dim=dim, keepdim=True) + 1e-8)
        if kind == "both":
            gain, bias = control.chunk(2, dim=-1)
            return x * (1 + gain) + bias
        return x + control if kind == "add" else x * (1 + control)

    def draw(self, count: int) -> Attention | None:
        """Factors of the attention for dropout: per element, and per latent for all positions."""
        rate, device = self.config.attention_dropout / 2, self.queries.weight.device
        if rate == 0:
            return None
        shape = (count, self.config.num_heads)
        elements = torch.rand(*shape, self.num_pixels, self.num_latents, device=device) >= rate
        latents = torch.rand(*shape, 1, self.num_latents, device=device) >= rate
        return (elements & latents).float() / (1 - rate) ** 2


def assign(attention: Attention) -> Assignments:
    """Attention to centroids as weights of positions that sum to one for each centroid."""
    return (attention / (attention.sum(dim=2, keepdim=True) + 1e-8)).mT


class MappingNetwork(nn.Module):
    """Layers for one latent, or for all components alike, which look at each other in between.

    Args:
        inputs: channels that come in.
        num_latents: components that look at each other before every layer; 0 = none do.
    """

    multiplier = 0.01  # of the learning rate

    def __init__(self, config: GANsformerConfig, inputs: int, num_latents: int) -> None:
        super().__init__()
        width, is_residual = config.latent_width, config.mapping == "residual"
        depth = (config.mapping_depth + 1) // 2 if is_residual else config.mapping_depth
        # Deviation: the reference cannot build a residual network whose input is wider (quirk 4).
        has_stem = is_residual and inputs != width
        self.stem = ScaledLinear(inputs, width, self.multiplier) if has_stem else None
        widths = [width if is_residual else inputs, *[width] * (depth - 1)]
        self.first = nn.ModuleList(ScaledLinear(w, width, self.multiplier) for w in widths)
        self.second = nn.ModuleList(
            ScaledLinear(width, width, self.multiplier) for _ in (widths if is_residual else [])
        )
        look = replace(
            config, attention="simplex", integration="add", norm="none", component_gate=False,
            num_heads=config.mapping_heads, pixel_gate=False,
        )  # fmt: skip
        has = config.component_positions
        self.attention = nn.ModuleList(
            BipartiteAttention(look, w, w, width, num_latents, num_latents, has, has)
            for w in (widths if num_latents else [])
        )
        self.out = ScaledLinear(width, width, self.multiplier)

    def forward(
        self,
        x: Float[Tensor, "N k Z"],
        positions: Float[Tensor, "k D"] | None,
        keep: Sequence[Attention | None] | None = None,
        mask: Float[Tensor, "N k"] | None = None,
    ) -> Float[Tensor, "N k D"]:
        if self.stem is not None:
            x = leaky(self.stem(x))
        for i, first in enumerate(self.first):
            skip = x  # past the attention too (quirk 12)
            if self.attention:
                kept = keep[i] if keep is not None else None
                x, *_ = self.attention[i](x, x, positions, positions, kept, mask=mask)
            x = leaky(first(x))
            if self.second:
                x = leaky(self.second[i](x) + skip, gain=1.0)
        return leaky(self.out(x))
