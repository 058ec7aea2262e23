"""Mean and covariance of features, accumulated in float64 over batches and ranks.

Batches are joined by their means and centered products, so that a large mean takes no digits from
the covariance. Another batch size, order or number of ranks rounds differently: by less than 1e-12
of the variances.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from scalegan.errors import DataError
from scalegan.runtime.world import World

PART = 4096
"""Rows that are turned into float64 at a time."""


class Moments(NamedTuple):
    """Number of rows (0 = unknown), mean, and covariance divided by the number minus one."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    mean: Float64[Tensor, " E"]
    covariance: Float64[Tensor, "E E"]


def moments(features: Float[Tensor, "N E"]) -> Moments:
    """Mean and covariance of at least two rows.

    Raises:
        DataError: if there are fewer, or a value is not finite.
    """
    running = RunningMoments(features.shape[1])
    running.add(features)
    return running.moments()


class RunningMoments:
    """Mean and covariance of rows that come in batches; memory does not depend on their number.

    Args:
        width: E, features per row.
        device: where products are formed and kept; it must know float64.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.products = torch.zeros(width, width, dtype=torch.float64, device=device)
        """Sum over rows of (x - mean) (x - mean)^T."""

    # Of two sets a, b with d = mean_b - mean_a and n = n_a + n_b:
    # mean = mean_a + d n_b / n,  products = products_a + products_b + d d^T n_a n_b / n
    # (Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm").
    def add(self, features: Float[Tensor, "N E"]) -> None:
        """Add rows.

        Raises:
            DataError: if a value is not finite, or the width is another.
        """
        width = len(self.mean)
        if features.shape[1] != width:
            raise DataError(f"features have width {features.shape[1]}; expected {width}")
        if not features.isfinite().all():
            raise DataError("features hold a value that is not finite")
        for part in features.split(PART) if len(features) else ():
            rows = part.to(self.mean.device, torch.float64)
            mean, count = rows.mean(dim=0), self.count + len(rows)
            centered, gap = rows - mean, mean - self.mean
            self.products += centered.T @ centered
            self.products += gap.outer(gap) * (self.count * len(rows) / count)
            self.mean += gap * (len(rows) / count)
            self.count = count

    def gathered(self, world: World) -> "RunningMoments":
        """The moments over the rows of all ranks, the same on every rank."""
        if world.size == 1:
            return self
        total = RunningMoments(len(self.mean), self.mean.device)
        total.count = int(world.sum(torch.tensor([self.count], device=self.mean.device)).item())
        total.mean = world.sum(self.mean * self.count) / max(1, total.count)
        gap = self.mean - total.mean
        total.products = world.sum(self.products + gap.outer(gap) * self.count)
        return total

    def moments(self) -> Moments:
        """Mean and covariance of all rows, on the CPU.

        Raises:
            DataError: if there are fewer than two rows.
        """
        if self.count < 2:
            raise DataError(f"{self.count} rows have no covariance; at least 2 are needed")
        covariance = (self.products + self.products.T) / (2 * (self.count - 1))
        return Moments(self.count, self.mean.cpu(), covariance.cpu())
