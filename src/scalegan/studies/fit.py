"""Straight lines through points, power laws through those of logarithms, with their intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Share of repetitions in which an interval holds the true slope."""
INTERVAL = f"{LEVEL:.0%} t interval of the least-squares slope, a point per run"
"""What the interval of a fit is, for those who read the numbers."""


class Line(NamedTuple):
    """The least-squares line y = intercept + slope x, and an interval of its slope."""

    intercept: float
    slope: float
    low: float
    high: float
    num_points: int


class PowerLaw(NamedTuple):
    """y = a x^-b, and an interval of b."""

    a: float
    b: float
    low: float
    high: float
    num_points: int


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Fit a line by least squares; None without three points at two different places.

    The interval assumes independent errors of equal variance.
    """
    num = len(x)
    if num < 3 or len(set(x)) < 2:
        return None
    mean_x, mean_y = float(np.mean(x)), float(np.mean(y))
    spread = float(np.sum((np.asarray(x) - mean_x) ** 2))
    slope = float(np.sum((np.asarray(x) - mean_x) * (np.asarray(y) - mean_y))) / spread
    intercept = mean_y - slope * mean_x
    residuals = np.asarray(y) - intercept - slope * np.asarray(x)
    error = math.sqrt(float(np.sum(residuals**2)) / (num - 2) / spread)
    half = t_quantile(num - 2) * error
    return Line(intercept, slope, slope - half, slope + half, num)


# log y = log a - b log x
def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw | None:
    """Fit y = a x^-b by least squares of logarithms; points that are not positive are left out."""
    points = [(math.log(u), math.log(v)) for u, v in zip(x, y, strict=True) if u > 0 and v > 0]
    line = fit_line([u for u, _ in points], [v for _, v in points])
    if line is None:
        return None
    return PowerLaw(math.exp(line.intercept), -line.slope, -line.high, -line.low, line.num_points)


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's correlation; None without two different values on each axis."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.corrcoef(x, y)[0, 1])


# With t = sqrt(n) tan(u) Student's density is cos(u)^(n - 1) du, but for a factor.
def t_quantile(degrees: int) -> float:
    """Half the width of Student's t interval that holds `LEVEL`, in standard errors."""
    angles = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(angles) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = float(np.interp(LEVEL * below[-1], below, angles))
    return math.sqrt(degrees) * math.tan(angle)
