"""The endless order of rows: a pure function of (seed, attempt, epoch, position).

The position is the number of images seen. Nothing about the order is ever saved: a resumed run
reads on where it stopped, also across the end of an epoch, and the ranks of a run read disjoint
parts of one global order that does not depend on their number.
"""

from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from scalegan.data.rows import Rows
from scalegan.interfaces import Batch
from scalegan.runtime.rng import stream


@lru_cache(maxsize=2)
def permutation(num_rows: int, seed: int, attempt: int, epoch: int) -> Int64[Tensor, " M"]:
    """The order of one epoch; the last two stay in memory."""
    rng = stream(seed, attempt, "order", epoch)
    return torch.randperm(num_rows, generator=rng)


def order(num_rows: int, seed: int, attempt: int, first: int, count: int) -> Int64[Tensor, " N"]:
    """Rows at the positions first, ..., first + count - 1 of the endless order."""
    positions = torch.arange(first, first + count)
    epochs, places = positions // num_rows, positions % num_rows
    rows = torch.empty_like(positions)
    for epoch in range(first // num_rows, (first + count - 1) // num_rows + 1):
        here = epochs == epoch
        rows[here] = permutation(num_rows, seed, attempt, epoch)[places[here]]
    return rows


def share(
    rows: Rows, seed: int, attempt: int, first: int, batch_size: int, parts: tuple[int, int, int]
) -> list[Batch]:
    """One rank's micro-batches of the global batch that starts at position `first`.

    Args:
        batch_size: over all ranks.
        parts: (rank, number of ranks, number of micro-batches).
    """
    rank, num_ranks, num_micro = parts
    indices = order(len(rows), seed, attempt, first, batch_size)
    return [rows.read(part) for part in indices.chunk(num_ranks)[rank].chunk(num_micro)]
