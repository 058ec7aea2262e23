"""Reading a data set in an endless order, a pure function of (seed, attempt, epoch, position).

The position is the number of images seen. Nothing about the order is ever saved: a resumed run
reads on where it stopped, also across the end of an epoch, and the ranks of a run read disjoint
parts of one global order that does not depend on their number. What threads read ahead is a guess
at the next positions and never changes what is returned.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import lru_cache

import torch
from jaxtyping import Int64
from torch import Tensor

from scalegan.data.memory import ReadsRows
from scalegan.interfaces import Batch
from scalegan.runtime.rng import stream


@lru_cache(maxsize=2)
def permutation(num_rows: int, seed: int, attempt: int, epoch: int) -> Int64[Tensor, " M"]:
    """Draw the order of the rows in one epoch; the last two drawn stay in memory."""
    rng = stream(seed, attempt, "order", epoch)
    return torch.randperm(num_rows, generator=rng)


def order(num_rows: int, seed: int, attempt: int, first: int, count: int) -> Int64[Tensor, " N"]:
    """Find the rows at the positions first, ..., first + count - 1 of the endless order."""
    positions = torch.arange(first, first + count)
    epochs, places = positions // num_rows, positions % num_rows
    rows = torch.empty_like(positions)
    for epoch in range(first // num_rows, (first + count - 1) // num_rows + 1):
        here = epochs == epoch
        rows[here] = permutation(num_rows, seed, attempt, epoch)[places[here]]
    return rows


def share(
    rows: ReadsRows,
    seed: int,
    attempt: int,
    first: int,
    batch_size: int,
    parts: tuple[int, int, int],
) -> list[Batch]:
    """Read one rank's micro-batches of the global batch that starts at position `first`.

    Args:
        batch_size: over all ranks.
        parts: (rank, number of ranks, number of micro-batches).
    """
    rank, num_ranks, num_micro = parts
    indices = order(len(rows), seed, attempt, first, batch_size)
    return [rows.read(part) for part in indices.chunk(num_ranks)[rank].chunk(num_micro)]


class Loader(AbstractContextManager["Loader"]):
    """Reads one rank's shares of the data ahead by threads and hands them out on the device.

    Args:
        rows: what is read; from several threads at once, if there are any.
        seed: of the run.
        batch_size: over all ranks.
        parts: (rank, number of ranks, number of micro-batches).
        device: where batches go; for a GPU they are read into pinned memory and copied while the
            GPU computes.
        num_threads: 0 = read when asked, in the caller's thread.
    """

    def __init__(
        self,
        rows: ReadsRows,
        seed: int,
        batch_size: int,
        parts: tuple[int, int, int],
        device: torch.device,
        num_threads: int,
    ) -> None:
        self.rows, self.seed, self.batch_size, self.parts = rows, seed, batch_size, parts
        self.device, self.num_ahead = device, num_threads + 1
        self.pool = ThreadPoolExecutor(num_threads, "loader") if num_threads else None
        self.pending: dict[tuple[int, int], Future[list[Batch]]] = {}

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def share(self, attempt: int, first: int) -> list[Batch]:
        """Hand out the micro-batches of the global batch that starts at position `first`.

        Raises:
            DataError: if they cannot be read, also if that was noticed in a thread.
        """
        if self.pool is None:
            batches = self._read(attempt, first)
        else:
            wanted = [(attempt, first + i * self.batch_size) for i in range(self.num_ahead + 1)]
            # After a rollback nothing that was read ahead fits.
            for key in self.pending.keys() - set(wanted):
                self.pending.pop(key).cancel()
            for key in wanted:
                if key not in self.pending:
                    self.pending[key] = self.pool.submit(self._read, *key)
            batches = self.pending.pop(wanted[0]).result()
        return [_each(batch, lambda t: t.to(self.device, non_blocking=True)) for batch in batches]

    def _read(self, attempt: int, first: int) -> list[Batch]:
        batches = share(self.rows, self.seed, attempt, first, self.batch_size, self.parts)
        if self.device.type != "cuda":
            return batches
        # Memory that a GPU can fetch from while the CPU goes on; what is on a GPU stays there.
        return [_each(batch, lambda t: t if t.is_cuda else t.pin_memory()) for batch in batches]


def _each(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    images = None if batch.images is None else function(batch.images)
    return Batch(function(batch.stored), function(batch.labels), images)
