import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from scalegan.errors import DataError
from scalegan.metrics import neighbors
from scalegan.metrics.neighbors import inside, nearest


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "ROWS", 16)
    monkeypatch.setattr(neighbors, "COLUMNS", 24)


def random(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("is_same", [False, True])
def test_neighbors_equal_those_of_sklearn(shift: float, is_same: bool) -> None:
    bank = random(70) + shift
    queries = bank if is_same else random(50, seed=1) + shift
    found = nearest(queries, bank, 3, is_same)
    oracle = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(bank.double().numpy() - shift)
    asked = None if is_same else queries.double().numpy() - shift
    distances, indices = oracle.kneighbors(asked)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)
    assert (found.indices.numpy() == indices).all()


def test_equal_rows_are_at_exactly_zero() -> None:
    """The expansion |a|^2 - 2ab + |b|^2 misses it by far at this mean."""
    bank = random(60) + 1e5
    assert (nearest(bank, bank, 1).distances == 0).all()
    twice = torch.cat([bank, bank])
    assert (nearest(twice, twice, 1, is_same=True).distances == 0).all()


def test_many_equal_rows() -> None:
    bank = random(3)[torch.arange(90) % 3]
    found = nearest(bank, bank, 5, is_same=True)
    assert (found.distances == 0).all()
    assert (found.indices % 3 == torch.arange(90)[:, None] % 3).all()
    assert (found.indices != torch.arange(90)[:, None]).all()


def test_a_distance_has_the_same_bits_wherever_its_rows_stand() -> None:
    a, b = random(40, 33), random(45, 33, seed=1)
    order = torch.randperm(45, generator=torch.Generator().manual_seed(2))
    first, second = nearest(a, b, 4), nearest(a, b[order], 4)
    assert torch.equal(first.distances, second.distances)
    assert torch.equal(first.indices, order[second.indices])


def test_inside_by_brute_force() -> None:
    points, centers = random(50), random(61, seed=1)
    distances = torch.cdist(
        points.double(), centers.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    radii = distances[0].clone()  # every ball has the first point exactly on its edge
    for is_strict in (True, False):
        expected = distances < radii if is_strict else distances <= radii
        found = inside(points, centers, radii, is_strict)
        assert torch.equal(found.per_point, expected.sum(dim=1))
        assert torch.equal(found.per_ball, expected.sum(dim=0))
    assert inside(points, centers, radii, True).per_point[0] == 0
    assert inside(points, centers, radii, False).per_point[0] == 61


def test_what_has_no_neighbors() -> None:
    with pytest.raises(DataError, match="a bank of 3 rows has no 3 neighbors for each row"):
        nearest(random(3), random(3), 3, is_same=True)
    with pytest.raises(DataError, match="not finite"):
        inside(random(3), random(3) * float("nan"), torch.ones(3).double(), True)
