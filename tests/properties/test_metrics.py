"""Statements on metrics that hold for all inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.kernel import kernel_distance_of_subsets
from scalegan.metrics.memorization import authenticity_percent
from scalegan.metrics.precision_recall import density_coverage, precision_recall
from scalegan.metrics.statistics import RunningMoments, moments

FEW = settings(max_examples=12, deadline=None)


@st.composite
def banks(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of features of any counts, widths, scales and centers; ranks may be deficient."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    width = draw(st.integers(1, 12))
    sides = []
    for _ in range(2):
        mixing = torch.randn(draw(st.integers(1, 12)), width, generator=rng)
        rows = torch.randn(draw(st.integers(8, 60)), len(mixing), generator=rng) @ mixing
        sides.append(draw(st.floats(0.1, 30)) * rows + draw(st.floats(-50, 50)))
    return sides[0], sides[1]


def scale(real: torch.Tensor, fake: torch.Tensor) -> float:
    both = torch.cat([real, fake]).double()
    return both.var(dim=0).sum().item() * 4 + 1e-6


@FEW
@given(banks())
def test_distance_to_itself_is_zero_and_sides_do_not_matter(sides) -> None:
    real, fake = (moments(side) for side in sides)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9 * scale(*sides))
    there, back = frechet_distance(real, fake), frechet_distance(fake, real)
    assert there == pytest.approx(back, abs=1e-9 * scale(*sides))
    assert there >= -1e-9 * scale(*sides)


@FEW
@given(banks(), st.integers(0, 1000))
def test_distance_does_not_see_moves_and_turns(sides, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    width = sides[0].shape[1]
    turn = torch.linalg.qr(torch.randn(width, width, generator=rng).double()).Q
    move = 10 * torch.randn(width, generator=rng).double()
    moved = [side.double() @ turn + move for side in sides]
    before = frechet_distance(*(moments(side) for side in sides))
    after = frechet_distance(*(moments(side) for side in moved))
    assert after == pytest.approx(before, abs=1e-8 * scale(*sides))


@FEW
@given(banks(), st.integers(0, 1000), st.integers(1, 70))
def test_order_and_batches_cannot_be_seen(sides, seed: int, size: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    real, fake = sides
    others = [side[torch.randperm(len(side), generator=rng)] for side in sides]
    running = RunningMoments(real.shape[1])
    for part in others[0].split(size):
        running.add(part)
    mine, expected = running.moments(), moments(real)
    limit = 1e-12 * (expected.covariance.diagonal().max().item() + 1e-6)
    torch.testing.assert_close(mine.mean, expected.mean, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(mine.covariance, expected.covariance, rtol=0, atol=limit)
    assert precision_recall(*others) == precision_recall(real, fake)
    assert density_coverage(*others) == density_coverage(real, fake)
    assert authenticity_percent(*others) == authenticity_percent(real, fake)
    there, here = (
        kernel_distance_of_subsets(*pair, *(torch.arange(len(side))[None] for side in pair)).mean
        for pair in (others, sides)
    )
    assert there == pytest.approx(here, rel=1e-9, abs=1e-9)


@FEW
@given(banks())
def test_swapped_sides_swap_precision_and_recall(sides) -> None:
    real, fake = sides
    assert precision_recall(fake, real) == precision_recall(real, fake)[::-1]
    assert precision_recall(real, real) == (1, 1)
    assert density_coverage(real, real).coverage == 1
