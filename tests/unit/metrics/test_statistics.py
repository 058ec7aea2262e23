import os
import socket
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from scalegan.errors import DataError
from scalegan.metrics.statistics import MOST, Sums, moments

TWO_RANKS = """
import torch
from scalegan.metrics.statistics import Sums, moments
from scalegan.runtime.world import join, leave
world = join("cpu")
rows = torch.randn(1501, 5, generator=torch.Generator().manual_seed(0)) * 3 + 40
rows[700:, 1] *= 1e4  # a high digit that the first rank never sees
mine = Sums(5)
for part in rows[:700].split(7) if world.rank == 0 else rows[700:].split(64):
    mine.add(part)
total = mine.gathered(world).moments()
alone = moments(rows)
assert total.count == 1501
assert torch.equal(total.mean, alone.mean) and torch.equal(total.covariance, alone.covariance)
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


def test_moments_are_correctly_rounded() -> None:
    """Against fractions: nothing is lost in between, whatever the mean is."""
    features = (random(30, 2) * torch.tensor([1.0, 1e-2]) + torch.tensor([3e3, 7.0])).float()
    rows = [[Fraction(value) for value in row] for row in features.double().tolist()]
    means = [sum(column) / 30 for column in zip(*rows, strict=True)]
    _, mean, covariance = moments(features)
    assert mean.tolist() == [float(value) for value in means]
    for i in range(2):
        for j in range(2):
            exact = sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / 29
            assert covariance[i, j].item() == pytest.approx(float(exact), rel=1e-15)


def test_tiny_and_large_features() -> None:
    for scale in (1e-4, 1e5):
        features = scale * random(400, 3)
        exact = np.cov(features.double().numpy().T)
        np.testing.assert_allclose(
            moments(features).covariance, exact, rtol=0, atol=1e-8 * exact.max()
        )


def test_streams_of_any_cut_and_order_have_the_same_bits() -> None:
    features = random(1500, 7) * 5 + torch.tensor([0, 1e-3, 3, 1e2, 1e3, 1e4, 1e5])
    expected = moments(features)
    shuffled = features[torch.randperm(1500, generator=torch.Generator().manual_seed(1))]
    for rows, size in ((features, 5), (features, 64), (features, 1500), (shuffled, 999)):
        sums = Sums(7)
        for part in rows.split(size):
            sums.add(part)
        found = sums.moments()
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.covariance, expected.covariance)
    assert torch.equal(expected.covariance, expected.covariance.T)


def test_merged_sums_have_the_same_bits() -> None:
    features = torch.cat([random(20, 3), 1e5 * random(30, 3, 1)])  # digits that one side lacks
    parts = [Sums(3), Sums(3)]
    parts[0].add(features[:20])
    parts[1].add(features[20:])
    assert parts[0].second.keys() != parts[1].second.keys()
    parts[0].merge(parts[1])
    assert torch.equal(parts[0].moments().covariance, moments(features).covariance)
    assert parts[0].count == 50


def test_two_ranks_have_the_same_bits_as_one() -> None:
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
    sums = Sums(2)
    for value in (float("nan"), float("inf"), -5e6):
        with pytest.raises(DataError, match="features hold a value that is not finite or above"):
            sums.add(torch.tensor([[1.0, value]]))
    with pytest.raises(DataError, match="features have width 3; expected 2"):
        sums.add(torch.zeros(1, 3))
    with pytest.raises(DataError, match="0 rows have no covariance; at least 2 are needed"):
        sums.moments()
    sums.count = MOST
    with pytest.raises(DataError, match="more than 4,194,304 rows cannot be added up exactly"):
        sums.add(torch.zeros(1, 2))
