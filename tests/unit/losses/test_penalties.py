import pytest
import torch

from scalegan.losses.penalties import finite_difference, nearby, orthogonality


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


def test_orthogonality_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    # Products of rows: 3, 2 and 0, each twice; lengths squared 5, 9 and 1.
    assert orthogonality([("a", weight)]).item() == 13
    assert orthogonality([("a", weight)], with_diagonal=True).item() == 13 + (16 + 64) / 2
    assert orthogonality([("a", weight), ("b", weight)], skipped=["a"]).item() == 13
    assert orthogonality([("a", torch.ones(3)), ("b", torch.tensor(2.0))]).item() == 0
    assert orthogonality([("a", torch.ones(2, 3, 2, 2))]).item() == 12**2


def test_the_gradient_of_orthogonality_is_what_the_authors_add() -> None:
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    orthogonality([("a", weight)]).backward()
    products = (weight @ weight.mT).detach().fill_diagonal_(0)
    torch.testing.assert_close(weight.grad, 2 * products @ weight.detach())
