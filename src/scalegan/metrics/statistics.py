"""Moments of features in float64: the same to the bit for any batch size, order and ranks.

Every value is rounded once to a multiple of 2^-36 (float32 values of at least 2^-12 are multiples
already) and cut into three digits of 20 bits. Products and sums of digits are whole numbers, which
float64 forms without rounding while a part has at most `PART` rows, and 64-bit integers add up the
parts. Whole numbers add up to the same in any order; only `Sums.moments` rounds, and it knows
nothing of parts. What is promised is thus equality to the bit, given equal features.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from scalegan.errors import DataError
from scalegan.runtime.world import World

BITS, DIGITS = 20, 3
UNIT = 2.0**-36
LARGEST = 2.0**22
"""Features must be smaller than this."""
PART = 1024
MOST = 2**22
"""Rows that can be added up: 4.2 million; below overflow for whatever values."""
PAIRS = [(i, j) for i in range(DIGITS) for j in range(i, DIGITS)]


class Moments(NamedTuple):
    """Number of rows (0 = unknown), mean, and covariance divided by the number minus one."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    mean: Float64[Tensor, " E"]
    covariance: Float64[Tensor, "E E"]


def moments(features: Float[Tensor, "N E"]) -> Moments:
    """Moments of at least two rows; what `Sums` gives for the same rows, to the bit."""
    sums = Sums(features.shape[1])
    sums.add(features)
    return sums.moments()


class Sums:
    """Sums over rows of features that come bit by bit. Memory does not depend on their number.

    Args:
        width: E, features per row.
        device: where products are formed and sums are kept; it must know float64.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.count, self.width, self.device = 0, width, torch.device(device)
        self.first = torch.zeros(DIGITS, width, dtype=torch.int64, device=self.device)
        self.second: dict[tuple[int, int], Int64[Tensor, "E E"]] = {}
        """Sums of products of digit i with digit j, i <= j; absent = zero."""

    def add(self, features: Float[Tensor, "N E"]) -> None:
        """Add rows.

        Raises:
            DataError: if a value is not finite or too large, or the width is another.
        """
        if features.shape[1] != self.width:
            raise DataError(f"features have width {features.shape[1]}; expected {self.width}")
        if self.count + len(features) > MOST:
            raise DataError(f"more than {MOST:,} rows cannot be added up exactly")
        for part in features.to(self.device).split(PART):
            if not (part.abs() < LARGEST).all():  # also where a value is NaN
                raise DataError(f"features hold a value that is not finite or above {LARGEST:,.0f}")
            digits = _digits((part.double() / UNIT).round())
            self.count += len(part)
            self.first += torch.stack([digit.sum(dim=0) for digit in digits]).long()
            used = [bool(digit.any()) for digit in digits]
            for i, j in PAIRS:
                if used[i] and used[j]:
                    self._add(i, j, (digits[i].T @ digits[j]).long())

    def merge(self, other: "Sums") -> None:
        """Add the rows of another."""
        if other.width != self.width:
            raise DataError(f"features have width {other.width}; expected {self.width}")
        self.count += other.count
        self.first += other.first.to(self.device)
        for (i, j), products in other.second.items():
            self._add(i, j, products.to(self.device))

    def gathered(self, world: World) -> "Sums":
        """The sums over the rows of all ranks, the same on every rank."""
        total = Sums(self.width, self.device)
        said = torch.tensor([self.count, *(pair in self.second for pair in PAIRS)])
        count, *users = world.sum(said.to(self.device)).tolist()
        total.count, total.first = int(count), world.sum(self.first)
        for pair, num_users in zip(PAIRS, users, strict=True):
            if num_users:
                products = self.second.get(pair)
                if products is None:
                    products = torch.zeros_like(self.first[0]).expand(self.width, -1)
                total.second[pair] = world.sum(products)
        return total

    def moments(self) -> Moments:
        """Mean and covariance.

        Raises:
            DataError: if there are fewer than two rows.
        """
        if self.count < 2:
            raise DataError(f"{self.count} rows have no covariance; at least 2 are needed")
        # Python's integers have no limit and their division is rounded correctly.
        totals = [
            sum(int(digit) << (BITS * i) for i, digit in enumerate(column))
            for column in self.first.T.tolist()
        ]
        mean = torch.tensor([total / self.count for total in totals], dtype=torch.float64)
        # Products are taken about whole units next to the mean, and what is left is corrected:
        # large means take no digits from the covariance.
        centers = [(2 * total + self.count) // (2 * self.count) for total in totals]
        rests = [total - self.count * center for total, center in zip(totals, centers, strict=True)]
        center = torch.tensor(centers, dtype=torch.float64)  # below 2^53 or a multiple of what is
        rest = torch.tensor(rests, dtype=torch.float64)
        high = low = torch.zeros(self.width, self.width, dtype=torch.float64)
        for (i, j), products in self._centered(centers).items():
            for term in (products.double(), (products - products.double().long()).double()):
                high, error = _two_sum(high, term * 2.0 ** (BITS * (i + j)))
                low = low + error
        cross = center[:, None] * rest
        products = high + (low - (cross + cross.T))
        return Moments(self.count, mean * UNIT, products * UNIT**2 / (self.count - 1))

    def _add(self, i: int, j: int, products: Int64[Tensor, "E E"]) -> None:
        if (i, j) in self.second:
            self.second[i, j] += products
        else:
            self.second[i, j] = products.clone()

    def _centered(self, centers: list[int]) -> dict[tuple[int, int], Int64[Tensor, "E E"]]:
        """Sums of products less those of the centers, still whole numbers, both orders added."""
        digits = _digits(torch.tensor(centers))
        result = {}
        for i, j in PAIRS:
            products = -self.count * digits[i].long()[:, None] * digits[j].long()
            if (i, j) in self.second:
                products = products + self.second[i, j].cpu()
            result[i, j] = products if i == j else products + products.T
        return result


def _digits(values: Tensor) -> list[Tensor]:
    """Whole numbers as digits of base 2^20 in -2^19 .. 2^19, the lowest first."""
    digits = []
    for _ in range(DIGITS - 1):
        if values.is_floating_point():
            above = (values / 2**BITS).round()
        else:
            above = (values + 2 ** (BITS - 1)) >> BITS
        digits.append(values - above * 2**BITS)
        values = above
    return [*digits, values]


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Their sum, and what rounding took from it (Knuth, TAOCP 2, section 4.2.2, theorem C)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
