import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from scalegan.losses.penalties import (
    draw_moves,
    exact,
    finite_difference,
    inconsistency,
    nearby,
    orthogonality,
    path_lengths,
)


def test_finite_difference_by_hand() -> None:
    logits, moved = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [2.0]])
    assert finite_difference(logits, moved, 0.5).tolist() == [1.0, 0.0]


def test_several_logits_are_summed_before_they_are_squared() -> None:
    logits, moved = torch.zeros(1, 2), torch.tensor([[3.0, -1.0]])
    assert finite_difference(logits, moved, 1.0).tolist() == [4.0]


def test_inconsistency_is_a_mean_over_logits() -> None:
    logits, moved = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 1.0]])
    assert inconsistency(logits, moved).tolist() == [5.0]


@pytest.mark.parametrize("sigma", [0.01, 0.5])
def test_expectation_is_the_squared_gradient_of_a_linear_discriminator(sigma: float) -> None:
    torch.manual_seed(0)
    slopes = torch.randn(2, 12, dtype=torch.float64)  # of two logits
    x = torch.randn(20_000, 12, dtype=torch.float64)
    slope = finite_difference(x @ slopes.T, nearby(x, draw_moves(x), sigma) @ slopes.T, sigma)
    exact = slopes.sum(dim=0).square().sum().item()
    # A squared normal varies by sqrt(2) of its mean: this is five standard errors.
    assert slope.mean().item() == pytest.approx(exact, rel=5 * (2 / 20_000) ** 0.5)


def test_nearby_moves_by_sigma() -> None:
    torch.manual_seed(0)
    x = torch.full((100_000,), 3.0)
    moved = nearby(x, draw_moves(x), 0.25) - x
    assert moved.std().item() == pytest.approx(0.25, rel=0.02)
    assert moved.mean().item() == pytest.approx(0, abs=0.005)


def test_both_passes_are_differentiated() -> None:
    logits = torch.tensor([[2.0]], requires_grad=True)
    moved = torch.tensor([[1.0]], requires_grad=True)
    finite_difference(logits, moved, 1.0).sum().backward()
    assert (logits.grad.item(), moved.grad.item()) == (2, -2)


def test_exact_slope_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    logits = torch.stack([x[:, 0] ** 2, 3 * x[:, 1]], dim=1)  # the sum slopes by (2 x0, 3)
    slope = exact(logits, x)
    assert slope.tolist() == [4 + 9, 36 + 9]
    slope.sum().backward()  # d/dx0 of (2 x0)^2
    assert x.grad.tolist() == [[8, 0], [24, 0]]


def test_path_lengths_by_hand() -> None:
    w = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]], requires_grad=True)  # (1, 2 rows, 2)
    images = (w[:, 0, 0] * 3 + w[:, 1, 1] * 4).view(1, 1, 1, 1)
    lengths = path_lengths(images, w, torch.full((1, 1, 1, 1), 2.0))
    # Slopes (6, 0) and (0, 8): the root of the mean of their squared norms.
    assert lengths.item() == pytest.approx(((36 + 64) / 2) ** 0.5)


def test_path_lengths_do_not_grow_with_the_image() -> None:
    torch.manual_seed(0)
    found = []
    for side in (8, 32):
        w = torch.randn(64, 6, requires_grad=True)
        slopes = torch.randn(6, side, side)
        images = torch.einsum("ns,shw->nhw", w, slopes)[:, None]
        found.append(path_lengths(images, w, torch.randn(images.shape)).mean().item())
    assert found[0] == pytest.approx(found[1], rel=0.15)


def test_only_products_of_different_rows_are_penalized() -> None:
    assert orthogonality([torch.eye(3) * 5, torch.eye(2)]).item() == 0
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    value = orthogonality([weight])
    assert value.item() == 11**2  # twice the product 1*3 + 2*4, squared, halved
    value.backward()
    products = weight @ weight.T
    expected = 2 * (products - products.diag().diag()) @ weight  # as BigGAN's code adds it
    torch.testing.assert_close(weight.grad, expected.detach())


def test_a_convolution_counts_as_a_matrix_of_its_output_channels() -> None:
    kernel = torch.zeros(2, 1, 2, 2)
    kernel[0, 0, 0, 0] = kernel[1, 0, 0, 0] = 2
    assert orthogonality([kernel]).item() == 16


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**16))
def test_exact_slope_of_a_linear_discriminator_is_that_of_its_summed_logits(
    count: int, num_logits: int, seed: int
) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(num_logits, 12)
    x = torch.randn(count, 1, 3, 2, 2, requires_grad=True)
    expected = weight.sum(dim=0).square().sum().expand(count)
    torch.testing.assert_close(exact(x.flatten(1) @ weight.T, x), expected)
    # The mean of the logits would be weaker by the square of their number.
    of_mean = exact(x.flatten(1) @ weight.T / num_logits, x)
    torch.testing.assert_close(of_mean * num_logits**2, expected)


def small_discriminator() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)).double()


def slope(network: nn.Sequential, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return exact(network(x), x)


def test_exact_slope_is_the_limit_of_central_differences() -> None:
    network, x, step = small_discriminator(), torch.randn(4, 6, dtype=torch.float64), 1e-5
    slopes = [
        (network(x + move).sum(dim=1) - network(x - move).sum(dim=1)) / (2 * step)
        for move in step * torch.eye(6, dtype=torch.float64)
    ]
    torch.testing.assert_close(slope(network, x), torch.stack(slopes).square().sum(dim=0))


def test_exact_slope_of_a_sample_is_its_own_and_does_not_depend_on_the_batch() -> None:
    network, x = small_discriminator(), torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(slope(network, x)[1:3], slope(network, x[1:3]))


def test_exact_slope_can_be_differentiated() -> None:
    network, x = small_discriminator(), torch.randn(2, 6, dtype=torch.float64)
    weight, step = network[0].weight, 1e-6
    slope(network, x).sum().backward()
    found = weight.grad[2, 3].item()
    with torch.no_grad():
        weight[2, 3] += step
    above = slope(network, x).sum().item()
    with torch.no_grad():
        weight[2, 3] -= 2 * step
    assert found == pytest.approx((above - slope(network, x).sum().item()) / (2 * step), rel=1e-5)
