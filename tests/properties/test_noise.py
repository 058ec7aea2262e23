"""Noised levels have the variance that their noise level asks for, whatever the schedule."""

from typing import Literal

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.losses import mng
from tests.unit.losses.test_mng import recursion


@settings(max_examples=50, deadline=None)
@given(
    num_levels=st.integers(1, 6),
    min_information=st.floats(0.11, 1),
    floor=st.floats(0.001, 0.09),
    schedule=st.sampled_from(["exponential", "linear"]),
)
def test_schedules(
    num_levels: int,
    min_information: float,
    floor: float,
    schedule: Literal["exponential", "linear"],
) -> None:
    noise_levels = mng.noise_schedule(num_levels, min_information, floor, schedule)
    assert ((noise_levels > 0) & (noise_levels < 1)).all()
    assert (noise_levels.diff() <= 1e-12).all(), "coarser levels are noisier"
    torch.testing.assert_close(noise_levels[-1].item(), floor)

    # Noise is linear in the draws: one draw of one at a time gives its covariance exactly.
    unit = torch.eye(num_levels).double().view(num_levels, num_levels, 1, 1, 1)
    matrix = mng.correlated_noise(unit, noise_levels).flatten(1)  # draw by level
    torch.testing.assert_close(matrix.square().sum(dim=0).sqrt(), noise_levels)
    torch.testing.assert_close(matrix, recursion(unit, noise_levels.tolist()).flatten(1))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_variance_of_what_is_shown(seed: int) -> None:
    torch.manual_seed(seed)
    noise_levels = mng.noise_schedule(4, 0.125, 0.01)
    noise = mng.correlated_noise(torch.randn(40, 4, 4, 16, 16), noise_levels)
    shown = mng.perturb(torch.ones(40, 1, 4, 16, 16), noise, noise_levels)
    deviations = shown.transpose(0, 1).flatten(1).std(dim=1)
    torch.testing.assert_close(deviations, noise_levels.float(), rtol=0.02, atol=0)
    means = shown.transpose(0, 1).flatten(1).mean(dim=1)
    torch.testing.assert_close(means, (1 - noise_levels).float(), rtol=0, atol=0.03)
