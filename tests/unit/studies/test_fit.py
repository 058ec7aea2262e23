"""Fits recover what data was made by, and their intervals are as wide as they claim."""

import math

import numpy as np
import pytest
from scipy import stats

from scalegan.studies.fit import correlation, fit_line, fit_power_law, t_quantile


def test_a_power_law_is_recovered_from_points_on_it() -> None:
    x = [1e3, 4e3, 2e4, 9e4]
    law = fit_power_law(x, [3.52e5 * c**-0.456 for c in x])
    assert law is not None and law.num_points == 4
    assert (law.a, law.b) == pytest.approx((3.52e5, 0.456), rel=1e-9)
    assert (law.low, law.high) == pytest.approx((0.456, 0.456), rel=1e-6)


def test_an_interval_covers_the_true_exponent_as_often_as_it_claims() -> None:
    rng, covered = np.random.default_rng(0), 0
    x = [1e3, 1e3, 1e4, 1e4, 1e5, 1e5]
    for _ in range(400):
        law = fit_power_law(x, [20 * c**-0.3 * math.exp(rng.normal(0, 0.2)) for c in x])
        assert law is not None and law.low < law.b < law.high
        covered += law.low <= 0.3 <= law.high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_line_is_the_one_of_scipy() -> None:
    x, y = [1.0, 2.0, 2.0, 5.0], [3.0, 1.0, 2.5, -4.0]
    line, expected = fit_line(x, y), stats.linregress(x, y)
    assert line is not None
    assert (line.intercept, line.slope) == pytest.approx((expected.intercept, expected.slope))
    half = stats.t.ppf(0.975, 2) * expected.stderr
    assert line.high - line.slope == pytest.approx(half, rel=1e-5)
    assert correlation(x, y) == pytest.approx(expected.rvalue)


@pytest.mark.parametrize("degrees", [1, 2, 5, 40])
def test_quantiles_are_those_of_scipy(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-5)


def test_too_few_points_have_no_fit() -> None:
    assert fit_power_law([1.0, 2.0], [3.0, 4.0]) is None
    assert fit_power_law([1.0, 2.0, 0.0], [3.0, 4.0, 5.0]) is None
    assert fit_line([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) is None
    assert correlation([1.0, 2.0], [3.0, 3.0]) is None
