import pytest
import torch

from scalegan.losses import mng


def recursion(draws: torch.Tensor, noise_levels: list[float]) -> torch.Tensor:
    """The paper's noise, level by level from the finest to the coarsest (GAT, arXiv 2509.24935)."""
    noise, before, levels = torch.zeros_like(draws[:, 0]), 0.0, []
    for level in reversed(range(len(noise_levels))):
        noise_level = noise_levels[level]
        ratio = (1 - noise_level) / (1 - before)
        noise = ratio * noise + (noise_level**2 - before**2 * ratio**2) ** 0.5 * draws[:, level]
        levels.append(noise)
        before = noise_level
    return torch.stack(levels[::-1], dim=1)


def test_published_schedule() -> None:
    noise_levels = mng.noise_schedule(4, 0.125, 0.01)
    assert noise_levels.dtype == torch.float64
    assert noise_levels.tolist() == pytest.approx([0.885, 0.76, 0.51, 0.01], abs=1e-12)


@pytest.mark.parametrize(
    ("num_levels", "expected"), [(1, [0.01]), (2, [0.76, 0.01]), (3, [0.76, 0.51, 0.01])]
)
def test_schedule_of_few_levels(num_levels: int, expected: list[float]) -> None:
    noise_levels = mng.noise_schedule(num_levels, 0.25, 0.01)
    assert noise_levels.tolist() == pytest.approx(expected, abs=1e-12)


def test_a_linear_schedule_has_the_same_ends_and_equal_steps() -> None:
    noise_levels = mng.noise_schedule(4, 0.125, 0.01, "linear")
    ends = mng.noise_schedule(4, 0.125, 0.01)[[0, -1]]
    assert noise_levels[[0, -1]].tolist() == pytest.approx(ends.tolist(), abs=1e-12)
    assert noise_levels.diff().tolist() == pytest.approx([-0.875 / 3] * 3, abs=1e-12)
    assert mng.noise_schedule(1, 0.125, 0.01, "linear").tolist() == [0.01]


def test_all_information_and_no_floor_is_no_noise() -> None:
    noise_levels = mng.noise_schedule(4, 1.0, 0.0)
    assert noise_levels.tolist() == [0] * 4
    assert not mng.correlated_noise(torch.randn(2, 4, 1, 2, 2), noise_levels).any()


def test_closed_form_equals_the_recursion() -> None:
    torch.manual_seed(0)
    draws = torch.randn(3, 4, 2, 2, 2, dtype=torch.float64)
    noise_levels = mng.noise_schedule(4, 0.125, 0.01)
    expected = recursion(draws, noise_levels.tolist())
    torch.testing.assert_close(mng.correlated_noise(draws, noise_levels), expected)


def test_noise_of_published_increments() -> None:
    # Where only one level has a draw of one, its own noise is the table's increment.
    noise_levels, table = (
        mng.noise_schedule(4, 0.125, 0.01),
        [0.806602528, 0.717775730, 0.509975982, 0.01],
    )
    for level, expected in enumerate(table):
        draws = torch.zeros(1, 4, 1, 1, 1)
        draws[0, level] = 1
        noise = mng.correlated_noise(draws, noise_levels).flatten()
        assert noise[level].item() == pytest.approx(expected, abs=1e-6)
        assert not noise[level + 1 :].any(), "a finer level holds no noise of a coarser one"


def test_covariance_of_levels() -> None:
    noise_levels = mng.noise_schedule(4, 0.125, 0.01)
    # Noise is linear in the draws: one draw of one at a time gives the matrix.
    matrix = mng.correlated_noise(torch.eye(4).double().view(4, 4, 1, 1, 1), noise_levels).flatten(
        1
    )
    covariance = matrix.T @ matrix
    for coarse in range(4):
        for fine in range(coarse, 4):
            ratio = (1 - noise_levels[coarse]) / (1 - noise_levels[fine])
            torch.testing.assert_close(covariance[coarse, fine], ratio * noise_levels[fine] ** 2)


def test_perturb_by_hand() -> None:
    levels = torch.tensor([2.0, 4.0]).view(1, 2, 1, 1, 1)
    noise = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1, 1)
    noise_levels = torch.tensor([0.5, 0.25])
    assert mng.perturb(levels, noise, noise_levels).flatten().tolist() == [11, 23]
    # One level stands for both.
    assert mng.perturb(levels[:, :1], noise, noise_levels).flatten().tolist() == [11, 21.5]
