import os
import socket
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.statistics import RunningMoments, moments

TWO_RANKS = """
import torch
from scalegan.metrics.statistics import RunningMoments, moments
from scalegan.runtime.world import join, leave
world = join("cpu")
rows = torch.randn(1501, 5, generator=torch.Generator().manual_seed(0)) * 3 + 40
rows[700:, 1] *= 1e4  # what the first rank never sees
mine = RunningMoments(5)
for part in rows[:700].split(7) if world.rank == 0 else rows[700:].split(64):
    mine.add(part)
total = mine.gathered(world).moments()
alone = moments(rows)
assert total.count == 1501
scale = alone.covariance.diagonal().sqrt()
assert ((total.mean - alone.mean).abs() < 1e-13 * (scale + alone.mean.abs())).all()
gap = (total.covariance - alone.covariance).abs()
assert (gap < 1e-12 * scale.outer(scale)).all()
leave()
print("equal")
"""


def random(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_moments_by_hand() -> None:
    count, mean, covariance = moments(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
    assert count == 2
    assert mean.tolist() == [1, 3]
    assert covariance.tolist() == [[2, 4], [4, 8]]
    assert mean.dtype == covariance.dtype == torch.float64


@pytest.mark.parametrize("shift", [0, 1e2, 1e4, -1e6])
def test_moments_equal_numpy_also_far_from_zero(shift: float) -> None:
    features = shift + random(50, 4)
    _, mean, covariance = moments(features)
    np.testing.assert_allclose(mean, features.double().numpy().mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(covariance, np.cov(features.double().numpy().T), rtol=1e-9)


def test_a_large_mean_takes_no_digits_from_the_covariance() -> None:
    """Against fractions."""
    features = (random(30, 2) * torch.tensor([1.0, 1e-2]) + torch.tensor([3e3, 7.0])).float()
    rows = [[Fraction(value) for value in row] for row in features.double().tolist()]
    means = [sum(column) / 30 for column in zip(*rows, strict=True)]
    _, mean, covariance = moments(features)
    assert mean.tolist() == pytest.approx([float(value) for value in means], rel=1e-15)
    for i in range(2):
        for j in range(2):
            exact = sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / 29
            assert covariance[i, j].item() == pytest.approx(float(exact), rel=1e-12)


def test_tiny_and_large_features() -> None:
    for scale in (1e-4, 1e5):
        features = scale * random(400, 3)
        exact = np.cov(features.double().numpy().T)
        np.testing.assert_allclose(
            moments(features).covariance, exact, rtol=0, atol=1e-8 * exact.max()
        )


def test_batches_of_any_size_and_order_differ_by_rounding_alone() -> None:
    features = random(1500, 7) * 5 + torch.tensor([0, 1e-3, 3, 1e2, 1e3, 1e4, 1e5])
    expected = moments(features)
    scale = expected.covariance.diagonal().sqrt()
    shuffled = features[torch.randperm(1500, generator=torch.Generator().manual_seed(1))]
    for rows, size in ((features, 5), (features, 64), (features, 1500), (shuffled, 999)):
        running = RunningMoments(7)
        for part in rows.split(size):
            running.add(part)
        found = running.moments()
        assert found.count == 1500
        torch.testing.assert_close(found.mean, expected.mean, rtol=1e-14, atol=1e-13)
        gap = (found.covariance - expected.covariance).abs()
        assert (gap < 1e-12 * scale.outer(scale)).all()
        assert torch.equal(found.covariance, found.covariance.T)


def test_a_batch_without_rows_changes_nothing() -> None:
    running = RunningMoments(3)
    running.add(random(0, 3))
    running.add(random(9, 3))
    running.add(random(0, 3))
    assert torch.equal(running.moments().covariance, moments(random(9, 3)).covariance)


def test_two_ranks_have_the_moments_of_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_RANKS],
            env={**os.environ, **group, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=120)[0].split() for rank in ranks] == [["equal"]] * 2


def test_what_cannot_be_added_up() -> None:
    running = RunningMoments(2)
    for value in (float("nan"), float("inf")):
        with pytest.raises(DataError, match="features hold a value that is not finite"):
            running.add(torch.tensor([[1.0, value]]))
    with pytest.raises(DataError, match="features have width 3; expected 2"):
        running.add(torch.zeros(1, 3))
    with pytest.raises(DataError, match="0 rows have no covariance; at least 2 are needed"):
        running.moments()
