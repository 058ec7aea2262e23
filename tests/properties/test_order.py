"""Each row is seen exactly once per epoch, whoever reads it and in whatever parts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.data.loader import order, share
from tests.support import tiny


@settings(max_examples=50, deadline=None)
@given(
    num_rows=st.integers(1, 40),
    per_part=st.integers(1, 3),
    num_ranks=st.integers(1, 3),
    num_micro=st.integers(1, 3),
    seed=st.integers(0, 5),
    attempt=st.integers(0, 2),
)
def test_each_row_once_per_epoch(
    num_rows: int, per_part: int, num_ranks: int, num_micro: int, seed: int, attempt: int
) -> None:
    rows = tiny.rows(num_rows, side=1)
    rows.labels.copy_(rows.labels.new_tensor(range(num_rows)))  # row i has label i
    batch_size = per_part * num_ranks * num_micro
    seen: list[int] = []
    while len(seen) < 3 * num_rows:
        first = len(seen)
        for rank in range(num_ranks):
            parts = rank, num_ranks, num_micro
            for batch in share(rows, seed, attempt, first, batch_size, parts):
                seen += batch.labels.tolist()
    for epoch in range(3):
        assert sorted(seen[epoch * num_rows :][:num_rows]) == list(range(num_rows))
    assert seen == order(num_rows, seed, attempt, 0, len(seen)).tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 200), st.integers(1, 60))
def test_a_position_does_not_depend_on_where_reading_starts(
    num_rows: int, first: int, count: int
) -> None:
    whole = order(num_rows, 0, 0, 0, first + count)
    assert order(num_rows, 0, 0, first, count).tolist() == whole[first:].tolist()
