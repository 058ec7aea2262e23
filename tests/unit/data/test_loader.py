import threading
import time

import pytest
import torch

from scalegan.data.loader import Loader, order, permutation, share
from scalegan.data.memory import ReadsRows, Rows
from scalegan.errors import DataError
from scalegan.interfaces import Batch

ROWS = Rows(torch.arange(12).to(torch.uint8).view(12, 1), torch.arange(12), None)


def labels(first: int, parts: tuple[int, int, int], batch_size: int = 8) -> list[list[int]]:
    """One rank's micro-batches; row i has label i."""
    return [batch.labels.tolist() for batch in share(ROWS, 0, 0, first, batch_size, parts)]


def test_an_epoch_is_a_permutation() -> None:
    assert sorted(order(12, 0, 0, 0, 12).tolist()) == list(range(12))
    assert order(12, 0, 0, 0, 12).tolist() != list(range(12))


def test_order_depends_on_seed_attempt_and_epoch() -> None:
    def epoch(seed: int, attempt: int, number: int) -> tuple[int, ...]:
        return tuple(order(100, seed, attempt, 100 * number, 100).tolist())

    assert len({epoch(0, 0, 0), epoch(1, 0, 0), epoch(0, 1, 0), epoch(0, 0, 1)}) == 4
    assert epoch(0, 0, 1) == epoch(0, 0, 1)


def test_order_goes_on_across_the_end_of_an_epoch() -> None:
    whole = order(12, 3, 1, 0, 48).tolist()
    pieces = [order(12, 3, 1, first, 8).tolist() for first in range(0, 48, 8)]
    assert [row for piece in pieces for row in piece] == whole
    assert order(12, 3, 1, 10, 30).tolist() == whole[10:40]


def test_order_of_one_row() -> None:
    assert order(1, 0, 0, 5, 3).tolist() == [0, 0, 0]


def test_order_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    permutation.cache_clear()
    order(12, 0, 0, 0, 24)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
@pytest.mark.parametrize("num_micro", [1, 2])
def test_ranks_and_micro_batches_cut_one_global_order(num_ranks: int, num_micro: int) -> None:
    expected = order(12, 0, 0, 4, 8).tolist()
    parts = [labels(4, (rank, num_ranks, num_micro)) for rank in range(num_ranks)]
    assert [len(micro_batches) for micro_batches in parts] == [num_micro] * num_ranks
    assert [row for part in parts for batch in part for row in batch] == expected


CPU = torch.device("cpu")


def loader(
    num_threads: int, rows: ReadsRows = ROWS, parts: tuple[int, int, int] = (0, 1, 2)
) -> Loader:
    return Loader(rows, 0, 8, parts, CPU, num_threads)


def seen(batches: list[Batch]) -> list[list[int]]:
    return [batch.labels.tolist() for batch in batches]


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_reading_ahead_changes_nothing(num_threads: int) -> None:
    with loader(num_threads) as reading:
        # On, on, back as after a rollback, far on, and into another attempt.
        for attempt, first in [(0, 0), (0, 8), (0, 16), (0, 8), (0, 16), (0, 400), (1, 408)]:
            expected = seen(share(ROWS, 0, attempt, first, 8, (0, 1, 2)))
            assert seen(reading.share(attempt, first)) == expected


class Slow:
    """Rows that take a while, count their readings, and fail at the third."""

    def __init__(self) -> None:
        self.num_read, self.names = 0, set[str]()

    def __len__(self) -> int:
        return 12

    def read(self, indices: torch.Tensor) -> Batch:
        self.num_read += 1
        self.names.add(threading.current_thread().name)
        if self.num_read == 3:
            raise DataError("row 7 is damaged", "prepare again")
        time.sleep(0.01)
        return ROWS.read(indices)


def test_threads_read_ahead_and_their_errors_come_out_in_turn() -> None:
    rows = Slow()
    with loader(1, rows, (0, 1, 1)) as reading:
        reading.share(0, 0)
        while rows.num_read < 3:  # nobody has asked for these yet
            time.sleep(0.001)
        reading.share(0, 8)
        with pytest.raises(DataError, match=r"^row 7 is damaged$") as caught:
            reading.share(0, 16)
    assert caught.value.hint == "prepare again"
    assert all(name.startswith("loader") for name in rows.names)


def test_leaving_ends_the_threads() -> None:
    with loader(2) as reading:
        reading.share(0, 0)
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]
