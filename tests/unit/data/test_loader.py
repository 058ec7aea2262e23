import pytest
import torch

from scalegan.data.loader import order, permutation, share
from scalegan.data.rows import Rows

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
