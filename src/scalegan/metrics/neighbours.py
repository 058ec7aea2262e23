"""Nearest rows and balls around rows: exact distances in bounded memory.

Distances by |a|^2 - 2ab + |b|^2 are fast and rounded: equal rows come out near zero instead of at
zero, and ties are broken at random. Here that form (in float32 blocks, of rows scaled to at most
one) only sorts out what cannot matter, by a lower bound that rounding cannot break; whatever is
left is computed by explicit differences in float64. A distance has the same bits wherever its two
rows stand.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from scalegan.errors import DataError
from scalegan.runtime.precision import full_float32

ROWS, COLUMNS = 1024, 4096
"""Sides of a block: 16 MiB in float32."""
TINY = torch.finfo(torch.float32).tiny
PAIRS = 2**23
"""Values per gathered side while differences are formed: 64 MiB in float64."""


class Neighbours(NamedTuple):
    """The k nearest rows of each row, nearest first."""

    distances: Float64[Tensor, "N k"]
    indices: Int64[Tensor, "N k"]


class Membership(NamedTuple):
    """How many balls each point lies in, and how many points lie in each ball."""

    per_point: Int64[Tensor, " N"]
    per_ball: Int64[Tensor, " M"]


class _Slack(NamedTuple):
    """The sum of a share of every row and one of every column."""

    of_rows: Float[Tensor, "N 1"]
    of_columns: Float[Tensor, " M"]


class _Frame(NamedTuple):
    """Where float32 bounds are taken: rows around zero, no value beyond one. Any would be right."""

    center: Float[Tensor, " E"]
    scale: float

    def __call__(self, rows: Tensor) -> Tensor:
        return ((rows - self.center) / self.scale).float()

    def squared(self, distances: Float64[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (distances / self.scale).square().float()

    def reach(self, distances: Float64[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The same, and not zero unless a distance is."""
        return torch.where(distances > 0, self.squared(distances).clamp(min=TINY), 0.0)


def nearest(
    queries: Float[Tensor, "N E"], bank: Float[Tensor, "M E"], k: int = 1, is_same: bool = False
) -> Neighbours:
    """The k nearest rows of the bank.

    Args:
        queries: rows whose neighbours are sought.
        bank: where they are sought.
        k: how many.
        is_same: whether both are the same rows, of which each leaves itself out.

    Raises:
        DataError: if the bank has too few rows or a value is not finite.
    """
    frame = _frame(queries, bank)
    if k < 1 or len(bank) - is_same < k:
        raise DataError(f"a bank of {len(bank)} rows has no {k} neighbours for each row")
    parts = []
    for begin in range(0, len(queries), ROWS):
        rows = slice(begin, min(begin + ROWS, len(queries)))
        parts.append(_nearest(queries, rows, bank, k, is_same, frame))
    return Neighbours(*(torch.cat(part) for part in zip(*parts, strict=True)))


def inside(
    points: Float[Tensor, "N E"],
    centers: Float[Tensor, "M E"],
    radii: Float64[Tensor, " M"],
    is_strict: bool,
) -> Membership:
    """Which points lie in which balls: distance < radius if strict, otherwise <=.

    Raises:
        DataError: if a value is not finite.
    """
    frame = _frame(points, centers)
    surely, perhaps = frame.squared(radii), frame.reach(radii)
    per_point = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    per_ball = torch.zeros(len(centers), dtype=torch.int64, device=points.device)
    for begin in range(0, len(points), ROWS):
        rows = slice(begin, min(begin + ROWS, len(points)))
        for columns, lower, slack in _lower_bounds(points[rows], centers, frame):
            is_inside = lower < surely[columns] - slack.of_columns - slack.of_rows
            i, j = ((lower <= perhaps[columns]) ^ is_inside).nonzero(as_tuple=True)
            distances, reach = _distances(points[rows], i, centers[columns], j), radii[columns][j]
            is_inside[i, j] = distances < reach if is_strict else distances <= reach
            per_point[rows] += is_inside.sum(dim=1)
            per_ball[columns] += is_inside.sum(dim=0)
    return Membership(per_point, per_ball)


def _nearest(
    queries: Tensor, rows: slice, bank: Tensor, k: int, is_same: bool, frame: _Frame
) -> tuple[Tensor, Tensor]:
    own = queries[rows]
    found = own.new_full((len(own), k), torch.inf, dtype=torch.float64)
    where = torch.zeros(len(own), k, dtype=torch.int64, device=own.device)
    for columns, lower, _ in _lower_bounds(own, bank, frame):
        if is_same:  # nobody is their own neighbour
            diagonal = torch.arange(rows.start, rows.stop, device=own.device)
            here = (diagonal >= columns.start) & (diagonal < columns.stop)
            lower[here, diagonal[here] - columns.start] = torch.inf
        while True:
            # The likeliest first; after a few blocks nearly no row has anything left to try.
            near = lower < frame.reach(found[:, -1:])
            i = near.any(dim=1).nonzero().squeeze(1)
            if not len(i):
                break
            j = lower[i].topk(min(k, lower.shape[1]), largest=False).indices.sort(dim=1).values
            tried = i[:, None].expand_as(j)
            distances = _distances(own, tried.flatten(), bank[columns], j.flatten()).view_as(j)
            distances[lower[tried, j].isinf()] = torch.inf
            lower[tried, j] = torch.inf
            both = torch.cat([found[i], distances], dim=1)
            indices = torch.cat([where[i], j + columns.start], dim=1)
            both, order = both.sort(dim=1, stable=True)
            found[i], where[i] = both[:, :k], indices.gather(1, order)[:, :k]
    return found, where


def _lower_bounds(a: Tensor, b: Tensor, frame: _Frame) -> Iterator[tuple[slice, Tensor, _Slack]]:
    """By block of columns: bounds below squared distances in the frame, at least 0, and how far
    above them the true value can lie."""
    a = frame(a)
    # Rounding of the rows, of |a|^2 - 2ab + |b|^2 for E terms, and of what it is compared with.
    share = (4 * a.shape[1] + 64) * torch.finfo(torch.float32).eps
    blur = 4 * a.shape[1] * TINY  # of what is too small for that
    squares_a = _squares(a)[:, None]
    least_a = (1 - share) * squares_a - blur
    for begin in range(0, len(b), COLUMNS):
        columns = slice(begin, min(begin + COLUMNS, len(b)))
        part = frame(b[columns])
        squares_b = _squares(part)
        with full_float32(a.device):
            lower = torch.addmm(least_a + (1 - share) * squares_b, a, part.T, alpha=-2)
        slack = _Slack(2 * share * squares_a + 2 * blur, 2 * share * squares_b)
        yield columns, lower.clamp_(min=0), slack


def _squares(rows: Float[Tensor, "N E"]) -> Float[Tensor, " N"]:
    return torch.linalg.vector_norm(rows, dim=1).square()


def _distances(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Float64[Tensor, " Q"]:
    """Distances of rows i of `a` to rows j of `b`, pair by pair, by explicit differences."""
    parts = []
    for mine, theirs in zip(i.split(_pairs(a)), j.split(_pairs(a)), strict=True):
        pair = a[mine].double()[:, None], b[theirs].double()[:, None]
        parts.append(torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").flatten())
    return torch.cat(parts)


def _pairs(rows: Tensor) -> int:
    return max(1, PAIRS // rows.shape[1])


def _frame(a: Tensor, b: Tensor) -> _Frame:
    """A frame for these rows.

    Raises:
        DataError: if a value is not finite.
    """
    parts = [part.abs().max() for rows in (a, b) for part in rows.split(ROWS)]
    largest = torch.stack(parts).max().item()  # of parts with NaN it is NaN
    if not largest < torch.finfo(b.dtype).max / 4:
        raise DataError("features hold a value that is not finite, or nearly")
    center = b[:: -(-len(b) // ROWS)].double().mean(dim=0)  # of some: it will do
    return _Frame(center.to(b.dtype), 2 * largest or 1.0)
