import pytest
import torch

from scalegan.losses.penalties import (
    finite_difference,
    nearby,
    path_length_penalty,
    path_lengths,
    squared_slope,
)


def test_finite_difference_by_hand() -> None:
    logits, moved = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [2.0]])
    assert finite_difference(logits, moved, 0.5).tolist() == [1.0, 0.0]


def test_several_logits_are_summed_before_they_are_squared() -> None:
    logits, moved = torch.zeros(1, 2), torch.tensor([[3.0, -1.0]])
    assert finite_difference(logits, moved, 1.0).tolist() == [4.0]


@pytest.mark.parametrize("sigma", [0.01, 0.5])
def test_expectation_is_the_squared_gradient_of_a_linear_discriminator(sigma: float) -> None:
    torch.manual_seed(0)
    slopes = torch.randn(2, 12, dtype=torch.float64)  # of two logits
    x = torch.randn(20_000, 12, dtype=torch.float64)
    slope = finite_difference(x @ slopes.T, nearby(x, sigma) @ slopes.T, sigma)
    exact = slopes.sum(dim=0).square().sum().item()
    # A squared normal varies by sqrt(2) of its mean: this is five standard errors.
    assert slope.mean().item() == pytest.approx(exact, rel=5 * (2 / 20_000) ** 0.5)


def test_nearby_moves_by_sigma() -> None:
    torch.manual_seed(0)
    x = torch.full((100_000,), 3.0)
    moved = nearby(x, 0.25) - x
    assert moved.std().item() == pytest.approx(0.25, rel=0.02)
    assert moved.mean().item() == pytest.approx(0, abs=0.005)


def test_both_passes_are_differentiated() -> None:
    logits = torch.tensor([[2.0]], requires_grad=True)
    moved = torch.tensor([[1.0]], requires_grad=True)
    finite_difference(logits, moved, 1.0).sum().backward()
    assert (logits.grad.item(), moved.grad.item()) == (2, -2)


def test_the_exact_slope_of_a_quadratic() -> None:
    """D(x) = a |x|^2 / 2 over two logits: the gradient of their sum is 2 a x."""
    samples = torch.randn(3, 1, 2, 4, 4, requires_grad=True)
    scale = torch.tensor(1.5, requires_grad=True)
    logit = scale * samples.square().flatten(1).sum(dim=1, keepdim=True) / 2
    slope = squared_slope(torch.cat([logit, logit], dim=1), samples)
    expected = 4 * 1.5**2 * samples.square().flatten(1).sum(dim=1)
    assert torch.allclose(slope, expected, rtol=1e-5)
    (gradient,) = torch.autograd.grad(slope.sum(), scale)  # it can be trained through
    assert torch.allclose(gradient, 2 * expected.sum() / 1.5, rtol=1e-5)


def test_path_lengths_are_per_sample_over_rows_and_layers() -> None:
    w = torch.randn(3, 2, 4, 5, requires_grad=True)
    samples = (w.flatten(1) @ torch.ones(40, 32)).view(3, 2, 4, 4)
    noise = torch.randn(3, 2, 4, 4)
    lengths = path_lengths(samples, w, noise)
    # Every one of the 40 numbers has the gradient sum(noise) / 4; 5 of them make a squared norm.
    expected = noise.sum(dim=(1, 2, 3)).abs() / 4 * 5**0.5
    assert torch.allclose(lengths, expected, rtol=1e-4)


def test_the_path_length_penalty_keeps_its_mean_apart() -> None:
    lengths = torch.tensor([1.0, 3.0], requires_grad=True)
    penalty, mean = path_length_penalty(lengths, torch.tensor(1.0), decay=0.75)
    assert mean == pytest.approx(1.25) and not mean.requires_grad
    assert torch.allclose(penalty, torch.tensor([0.25**2, 1.75**2]))
    same, _ = path_length_penalty(torch.full((4,), 2.0), torch.tensor(2.0))
    assert (same == 0).all()
