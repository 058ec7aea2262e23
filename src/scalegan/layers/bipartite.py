"""Bipartite attention: the positions of a map attend to a few latents, which modulate them.

Source: GANsformer, arXiv 2103.01209 (ICML 2021), section 3.1, and its authors' PyTorch code.
k latents of width D, A heads, T positions of a map, P channels of a position, h channels of a head.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.layers.stylegan import ScaledLinear

Attention = Float[Tensor, "N A T k"]
Assignments = Float[Tensor, "N A k _"]
"""Of positions to centroids; another layer's map may have fewer positions."""
Integration = Literal["multiply", "add", "both"]
Norm = Literal["layer", "instance", "none"]


class Gate(nn.Module):
    """A factor between 0 and 1 on the attention of each element, per head."""

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
    """Positions of a map attend to latents, and the attended values modulate the map.

    Simplex: the attention is the softmax of queries and keys over the latents. Duplex as published:
    that of pixels and centroids, so that latents enter through their values alone; the layers that
    have no effect there are left out (docs/deviations.md, `unused-keys`).

    Args:
        width, latent, position: channels of the map, of the latents, of positions.
        num_latents, num_pixels: how many there are of both.
        has_grid, has_positions: whether pixels and latents have positions.
        integration: what the attended values do to a pixel: scale it, are added, or both.
        norm: over channels, over positions, or none, before the integration.
        component_gate, pixel_gate: whether latents and pixels gate their attention.
        clusterings: duplex: assignments of pixels to centroids; from the second on, centroids are
            the means of the ones before.
        carries_assignments: duplex: whether centroids are means of the preceding layer's
            assignments.
        is_first: whether no layer precedes this one, whose assignments it could take.
        dropout: share of the attention that is dropped in training, half of it by whole latents.
    """

    def __init__(
        self,
        width: int,
        latent: int,
        position: int,
        num_latents: int,
        num_pixels: int,
        *,
        num_heads: int = 1,
        is_duplex: bool = False,
        has_grid: bool = True,
        has_positions: bool = True,
        integration: Integration = "multiply",
        norm: Norm = "layer",
        component_gate: bool = False,
        pixel_gate: bool = False,
        clusterings: int = 1,
        carries_assignments: bool = False,
        is_first: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_latents, self.num_pixels, self.num_heads = num_latents, num_pixels, num_heads
        self.is_duplex, self.clusterings, self.dropout = is_duplex, clusterings, dropout
        self.integration, self.norm = integration, norm
        self.queries = ScaledLinear(width, width)
        self.values = ScaledLinear(latent, width)
        self.grid_map = ScaledLinear(position, width) if has_grid else None
        if is_duplex:
            self.element_weight = nn.Parameter(torch.ones(num_heads, 1, 2 * width // num_heads))
            self.centroids, self.first_centroids = None, None
            # docs/deviations.md, `first-centroids`: theirs are made of queries alone, which works
            # only where those divide evenly into centroids.
            fits = num_pixels * num_heads == 2 * num_latents
            if carries_assignments and is_first and fits:
                self.first_centroids = ScaledLinear(width, width * num_heads)
            elif not carries_assignments or is_first:
                start = torch.randn(1, num_heads, num_latents, 2 * width // num_heads)
                self.centroids = nn.Parameter(start)
        else:
            self.keys = ScaledLinear(latent, width)
            self.position_map = ScaledLinear(position, width) if has_positions else None
        self.component_gate, self.pixel_gate = None, None
        if component_gate:
            self.component_gate = Gate(latent, position if has_positions else 0, num_heads, 0.0)
        if pixel_gate:
            self.pixel_gate = Gate(width, position if has_grid else 0, num_heads, 1.0)
        self.modulation = ScaledLinear(width, width * (2 if integration == "both" else 1))

    def forward(
        self,
        x: Float[Tensor, "N T C"],
        latents: Float[Tensor, "N k D"],
        grid: Float[Tensor, "T P"] | None,
        positions: Float[Tensor, "k P"] | None,
        keep: Attention | None = None,
        carried: Assignments | None = None,
    ) -> tuple[Float[Tensor, "N T C"], Attention, Assignments | None]:
        """Modulate x.

        Args:
            keep: factors of the attention that `draw_dropout` made; None drops nothing.
            carried: assignments of the preceding layer, where they are carried.

        Returns:
            The new x, the attention, and the assignments of pixels to centroids (duplex).
        """
        content = self.queries(x)
        place = torch.zeros_like(content)
        if self.grid_map is not None:
            place = place + self.grid_map(grid)
        if self.is_duplex:
            elements = self.split(torch.cat([content, place], dim=-1))
            attention = self.cluster(elements, self.start(elements, content + place, carried))
        else:
            keys = self.keys(latents)
            if self.position_map is not None:
                keys = keys + self.position_map(positions)
            attention = self.attend(self.split(content + place), self.split(keys))
        if self.component_gate is not None:
            attention = attention * self.component_gate(latents, positions)[:, :, None]
        if self.pixel_gate is not None:
            attention = attention * self.pixel_gate(x, grid)[..., None]
        kept = attention if keep is None else attention * keep
        context = (kept @ self.split(self.values(latents))).transpose(1, 2).flatten(2)
        assignments = assign(attention) if self.is_duplex else None
        return self.integrate(x, context), attention, assignments

    def split(self, x: Float[Tensor, "N T C"]) -> Float[Tensor, "N A T h"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    # Attention(Q, K, V) = softmax(Q K^T / sqrt(h)) V (section 3.1, simplex attention): its softmax.
    def attend(
        self, seekers: Float[Tensor, "N A T h"], sought: Float[Tensor, "#N A k h"]
    ) -> Attention:
        return self.scores(seekers, sought).softmax(dim=-1)

    def scores(
        self, seekers: Float[Tensor, "N A T h"], sought: Float[Tensor, "#N A k h"]
    ) -> Attention:
        head_width = self.queries.weight.shape[0] // self.num_heads
        return seekers @ sought.mT / math.sqrt(head_width)

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
        self, elements: Float[Tensor, "N A T h"], centroids: Float[Tensor, "#N A k h"]
    ) -> Attention:
        """Assign elements to centroids softly, and move those to the means in between."""
        seekers = elements * self.element_weight
        attention = self.attend(seekers, centroids)
        for _ in range(self.clusterings - 1):
            attention = self.attend(seekers, assign(attention) @ elements)
        return attention

    # u(X, Y) = gamma(a(X, Y)) * omega(X) + beta(a(X, Y)) (section 3.1, simplex attention): "both".
    # The authors' networks have omega(X) = X / sqrt(mean X^2 + 1e-8), not centered, and no beta.
    def integrate(
        self, x: Float[Tensor, "N T C"], context: Float[Tensor, "N T C"]
    ) -> Float[Tensor, "N T C"]:
        """Normalize x and let an affine map of the attended values scale it, move it, or both."""
        kind, control = self.integration, self.modulation(context)
        if self.norm != "none":
            dim = -1 if self.norm == "layer" else 1
            if kind != "multiply":
                x = x - x.mean(dim=dim, keepdim=True)
            if kind != "add":
                x = x * torch.rsqrt(x.square().mean(dim=dim, keepdim=True) + 1e-8)
        if kind == "both":
            gain, bias = control.chunk(2, dim=-1)
            return x * (1 + gain) + bias
        return x + control if kind == "add" else x * (1 + control)

    def draw_dropout(self, count: int) -> Attention | None:
        """Factors of the attention for dropout: per element, and per latent for all positions."""
        rate, device = self.dropout / 2, self.queries.weight.device
        if rate == 0:
            return None
        shape = (count, self.num_heads)
        elements = torch.rand(*shape, self.num_pixels, self.num_latents, device=device) >= rate
        latents = torch.rand(*shape, 1, self.num_latents, device=device) >= rate
        return (elements & latents).float() / (1 - rate) ** 2


def assign(attention: Attention) -> Assignments:
    """Attention to centroids as weights of positions that sum to one for each centroid."""
    return (attention / (attention.sum(dim=2, keepdim=True) + 1e-8)).mT


def direction_table(width: int, grid: int, directions: int = 2) -> Float[Tensor, "T D"]:
    """Sines and cosines of the distance along evenly turned directions, row by row.

    Coordinates run from -1 to 1, neither times pi nor times the side, so that only the first few
    frequencies vary noticeably.

    Args:
        width: channels, a multiple of 2 * directions.
        grid: side of the grid.
        directions: 2 = along the columns, then along the rows.
    """
    count = width // (2 * directions)
    frequencies = 10000 ** -(torch.arange(count, dtype=torch.float64) / count)
    steps = torch.linspace(-1, 1, grid, dtype=torch.float64)
    row, column = steps.repeat_interleave(grid), steps.repeat(grid)
    parts = []
    for i in range(directions):
        turn = math.pi * i / directions
        distance = math.cos(turn) * column + math.sin(turn) * row
        angles = distance[:, None] * frequencies
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1).float()
