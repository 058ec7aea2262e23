import numpy as np
import pytest
import scipy.linalg
import torch

from scalegan.errors import DataError
from scalegan.metrics import frechet
from scalegan.metrics.frechet import (
    frechet_distance,
    frechet_distance_of_features,
    frechet_infinity,
    too_few,
)
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


def features(seed: int, count: int, width: int = 12) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=rng)
    return torch.randn(count, width, generator=rng) @ mixing + seed


@pytest.mark.parametrize("counts", [(300, 200), (7, 200), (5, 4), (2, 2)])
def test_moments_and_features_agree_for_any_rank(counts: tuple[int, int]) -> None:
    a, b = features(1, counts[0]), features(2, counts[1])
    from_moments = frechet_distance(moments(a), moments(b))
    assert frechet_distance_of_features(a, b) == pytest.approx(from_moments, rel=1e-10)


def test_few_rows_of_one_set_are_at_no_distance() -> None:
    few = moments(features(1, 5))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9 * few.covariance.trace().item())


def test_the_fast_way_is_left_where_rounding_could_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    exact = frechet.nuclear_norm
    monkeypatch.setattr(frechet, "nuclear_norm", lambda *sides: taken.append(1) or exact(*sides))
    frechet_distance(random(1), random(2))
    assert not taken
    frechet_distance(random(1, count=4), random(2))
    frechet_distance(random(2), random(1, count=4))
    assert len(taken) == 2


def test_what_are_no_moments() -> None:
    a = random(1)
    lopsided = a.covariance.clone()
    lopsided[0, 1] += 0.1
    faults = {
        "not symmetric": a._replace(covariance=lopsided),
        "not finite": a._replace(mean=a.mean * float("nan")),
        "means have 3 and 6 features": Moments(9, torch.zeros(3).double(), torch.eye(3).double()),
        "negative eigenvalue": a._replace(
            covariance=a.covariance - 2 * torch.linalg.eigvalsh(a.covariance)[0] * torch.eye(6)
        ),
        "negative variance": a._replace(covariance=-a.covariance),
    }
    for message, wrong in faults.items():
        with pytest.raises(DataError, match=message):
            frechet_distance(a, wrong)


def test_too_few_samples_are_said() -> None:
    assert too_few(2049, 2048) == too_few(0, 2048) == ""
    assert "2,048 samples are too few for 2,048 features" in too_few(2048, 2048)


def test_infinity_takes_the_first_rows_of_evenly_spaced_sizes() -> None:
    real, fake = moments(features(1, 400)), features(2, 300)
    found = frechet_infinity(real, fake, num_sizes=4)
    assert found.sizes == [30, 120, 210, 300]
    assert found.distances[1] == pytest.approx(frechet_distance(real, moments(fake[:120])))
    slope, value = np.polyfit([1 / size for size in found.sizes], found.distances, 1)
    assert (found.value, found.slope) == pytest.approx((value, slope), rel=1e-9)
    with pytest.raises(DataError, match="2 rows; at least 3 are needed to extrapolate"):
        frechet_infinity(real, fake[:2])
