"""Nearest rows and balls around rows: exact distances in bounded memory.

Distances by |a|^2 - 2ab + |b|^2 are fast and rounded: equal rows come out near zero instead of at
zero, and ties are broken at random. Here that form (float64, in blocks) only sorts out what cannot
matter, by a lower bound that rounding cannot break; whatever is left is computed by explicit
differences. A distance has the same bits wherever its two rows stand.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from scalegan.errors import DataError

ROWS, COLUMNS = 1024, 4096
"""Sides of a block: 32 MiB in float64."""
PAIRS = 2**23
"""Values per gathered side while differences are formed: 64 MiB in float64."""


class Neighbors(NamedTuple):
    """The k nearest rows of each row, nearest first."""

    distances: Float64[Tensor, "N k"]
    indices: Int64[Tensor, "N k"]


class Membership(NamedTuple):
    """How many balls each point lies in, and how many points lie in each ball."""

    per_point: Int64[Tensor, " N"]
    per_ball: Int64[Tensor, " M"]


def nearest(
    queries: Float[Tensor, "N E"], bank: Float[Tensor, "M E"], k: int = 1, is_same: bool = False
) -> Neighbors:
    """The k nearest rows of the bank.

    Args:
        queries: rows whose neighbors are sought.
        bank: where they are sought.
        k: how many.
        is_same: whether both are the same rows, of which each leaves itself out.

    Raises:
        DataError: if the bank has too few rows or a value is not finite.
    """
    _check(queries, bank)
    if k < 1 or len(bank) - is_same < k:
        raise DataError(f"a bank of {len(bank)} rows has no {k} neighbors for each row")
    parts = []
    for begin in range(0, len(queries), ROWS):
        rows = slice(begin, min(begin + ROWS, len(queries)))
        parts.append(_nearest(queries, rows, bank, k, is_same))
    return Neighbors(*(torch.cat(part) for part in zip(*parts, strict=True)))


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
    _check(points, centers)
    per_point = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    per_ball = torch.zeros(len(centers), dtype=torch.int64, device=points.device)
    for begin in range(0, len(points), ROWS):
        rows = slice(begin, min(begin + ROWS, len(points)))
        for columns, lower, slack in _lower_bounds(points[rows], centers):
            squares = radii[columns].square()
            is_inside = lower + slack < squares
            i, j = ((lower <= squares) & ~is_inside).nonzero(as_tuple=True)
            distances = _distances(points[rows], i, centers[columns], j)
            limits = radii[columns][j]
            is_inside[i, j] = distances < limits if is_strict else distances <= limits
            per_point[rows] += is_inside.sum(dim=1)
            per_ball[columns] += is_inside.sum(dim=0)
    return Membership(per_point, per_ball)


def _nearest(
    queries: Tensor, rows: slice, bank: Tensor, k: int, is_same: bool
) -> tuple[Tensor, Tensor]:
    own = queries[rows]
    found = own.new_full((len(own), k), torch.inf, dtype=torch.float64)
    where = torch.zeros(len(own), k, dtype=torch.int64, device=own.device)
    for columns, lower, _ in _lower_bounds(own, bank):
        if is_same:  # nobody is their own neighbor
            diagonal = torch.arange(rows.start, rows.stop, device=own.device)
            here = (diagonal >= columns.start) & (diagonal < columns.stop)
            lower[here, diagonal[here] - columns.start] = torch.inf
        while True:
            # The likeliest first; after a few blocks nearly no row has anything left to try.
            near = lower < found[:, -1:].square()
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


def _lower_bounds(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """By block of columns: bounds below squared distances, at least 0, and how far above them the
    true value can lie."""
    a = a.double()
    # Rounding of |a|^2 - 2ab + |b|^2, and of the explicit differences, for E terms each.
    share = (4 * a.shape[1] + 64) * torch.finfo(torch.float64).eps
    squares_a = a.square().sum(dim=1, keepdim=True)
    for begin in range(0, len(b), COLUMNS):
        columns = slice(begin, min(begin + COLUMNS, len(b)))
        part = b[columns].double()
        squares_b = part.square().sum(dim=1)
        slack = share * (squares_a + squares_b)
        lower = torch.addmm(squares_a + squares_b - slack, a, part.T, alpha=-2)
        yield columns, lower.clamp_(min=0), 2 * slack


def _distances(a: Tensor, i: Tensor, b: Tensor, j: Tensor) -> Float64[Tensor, " Q"]:
    """Distances of rows i of `a` to rows j of `b`, pair by pair, by explicit differences."""
    parts, size = [], max(1, PAIRS // a.shape[1])
    for mine, theirs in zip(i.split(size), j.split(size), strict=True):
        pair = a[mine].double()[:, None], b[theirs].double()[:, None]
        parts.append(torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").flatten())
    return torch.cat(parts)


def _check(a: Tensor, b: Tensor) -> None:
    if not all(part.isfinite().all() for rows in (a, b) for part in rows.split(ROWS)):
        raise DataError("features hold a value that is not finite")
