import numpy as np
import pytest
import scipy.linalg
import torch

from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.statistics import Moments, moments


def random(seed: int, count: int = 40, width: int = 6) -> Moments:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=rng)
    return moments(torch.randn(count, width, generator=rng) @ mixing + seed)


def test_a_distribution_is_at_no_distance_from_itself() -> None:
    assert frechet_distance(random(1), random(1)) == pytest.approx(0, abs=1e-9)


def test_a_shift_costs_its_square() -> None:
    a = random(1)
    shifted = Moments(a.count, a.mean + torch.tensor([3.0, 0, 0, 0, 0, 4.0]), a.covariance)
    assert frechet_distance(a, shifted) == pytest.approx(25)


def test_one_dimension_by_hand() -> None:
    a, b = (
        Moments(0, torch.tensor([mean]).double(), torch.tensor([[deviation**2]]).double())
        for mean, deviation in ((1.0, 2.0), (4.0, 7.0))
    )
    assert frechet_distance(a, b) == pytest.approx((4 - 1) ** 2 + (7 - 2) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_matrix_square_root(seed: int) -> None:
    a, b = random(2 * seed + 1), random(2 * seed + 2)
    root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    expected = ((a.mean - b.mean) ** 2).sum().item() + np.trace(
        a.covariance.numpy() + b.covariance.numpy() - 2 * root.real
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


def test_singular_covariances() -> None:
    few = random(1, count=3)  # rank 2 in six dimensions
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    point = Moments(few.count, few.mean, torch.zeros(6, 6, dtype=torch.float64))
    assert frechet_distance(few, point) == pytest.approx(few.covariance.trace().item())
    assert frechet_distance(point, point) == 0
