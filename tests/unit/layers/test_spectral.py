import copy
from functools import partial

import pytest
import torch
from torch import nn

from scalegan.layers.spectral import Conv, Embedding, Linear, SpectralNorm, Table, power_iteration


def weight(rows: int = 7, columns: int = 11) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (5, 4, 3, 3), (1, 8)])
def test_many_iterations_find_the_singular_values(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    num_values = min(3, shape[0])
    norm = SpectralNorm(shape[0], eps=1e-6, iterations=300, num_values=num_values)
    divided = norm(matrix)
    exact = torch.linalg.svdvals(matrix.flatten(1))
    torch.testing.assert_close(norm.sigma, exact[:num_values], rtol=1e-3, atol=0)
    assert torch.linalg.svdvals(divided.flatten(1))[0].item() == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(norm.u @ norm.u.mT, torch.eye(num_values), rtol=0, atol=1e-4)


def test_one_iteration_by_hand() -> None:
    norm = SpectralNorm(2, eps=1e-6)
    norm.u.copy_(torch.tensor([[2.0, 0.0]]))
    matrix = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    divided = norm(matrix)
    # v = (3, 4) / 5, W v = (5, 4), u = (5, 4) / sqrt(41), sigma = u W v = sqrt(41).
    torch.testing.assert_close(norm.u, torch.tensor([[5.0, 4.0]]) / 41**0.5)
    assert norm.sigma.item() == pytest.approx(41**0.5)
    torch.testing.assert_close(divided, matrix / 41**0.5)


def test_short_vectors_are_not_divided_by_their_length() -> None:
    u, sigma = power_iteration(torch.full((1, 1), 1e-9), torch.ones(1, 1), eps=1e-6)
    # v = 1e-9 / 1e-6, W v = 1e-12, u = 1e-12 / 1e-6.
    assert u.item() == pytest.approx(1e-6) and sigma.item() == pytest.approx(1e-18)


def test_evaluation_forgets_what_training_keeps() -> None:
    norm = SpectralNorm(7, eps=1e-6, iterations=5).eval()
    start = norm.u.clone()
    once = norm(weight())
    assert torch.equal(norm.u, start) and norm.sigma.item() == 1
    assert torch.equal(norm(weight()), once)
    single = copy.deepcopy(norm).train()
    single.iterations = 1
    assert torch.equal(single(weight()), once)
    assert not torch.equal(single.u, start)
    with torch.no_grad():
        moved = single.u.clone()
        single(weight())
    assert not torch.equal(single.u, moved)  # also where no gradient is wanted


def test_the_gradient_holds_the_vectors_and_follows_the_singular_value() -> None:
    norm, matrix = SpectralNorm(7, eps=1e-6), weight().requires_grad_()
    v = nn.functional.normalize(norm.u @ matrix.detach())
    u = nn.functional.normalize(v @ matrix.detach().mT)
    slope = torch.randn(7, 11)
    (norm(matrix) * slope).sum().backward()
    sigma = (u @ matrix @ v.mT).item()
    expected = slope / sigma - (slope * matrix).sum() / sigma**2 * (u.mT @ v)
    torch.testing.assert_close(matrix.grad, expected.detach(), rtol=1e-4, atol=1e-6)


def test_layers_divide_their_weights() -> None:
    torch.manual_seed(0)
    normal = partial(SpectralNorm, eps=1e-6, iterations=50)
    x, vector, labels = torch.randn(2, 3, 5, 5), torch.randn(2, 3), torch.tensor([1, 0])
    for layer, given in (
        (Conv(normal, 3, 4, 3), x),
        (Linear(normal, 3, 4), vector),
        (Embedding(normal, 4, 3), labels),
    ):
        nn.init.orthogonal_(layer.weight, gain=5.0)
        bias = getattr(layer, "bias", None)
        rest = 0 if bias is None else bias.view(-1, *[1] * (2 if given.ndim == 4 else 0))
        divided = copy.deepcopy(layer)
        divided.normal = nn.Identity()
        torch.testing.assert_close(layer(given) - rest, (divided(given) - rest) / 5)
    assert Conv(normal, 3, 4, 1)(x).shape == (2, 4, 5, 5)


def test_bits_do_not_get_lost_under_autocast() -> None:
    norm, twin = SpectralNorm(7, eps=1e-6), SpectralNorm(7, eps=1e-6)
    twin.load_state_dict(norm.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        inside = norm(weight())
    assert torch.equal(inside, twin(weight()))


def test_a_table_takes_mixtures() -> None:
    table = Table(2, 3)
    shares = torch.tensor([[0.0, 1.0], [0.25, 0.75]])
    a, b = table.weight
    torch.testing.assert_close(table(shares), torch.stack([b, 0.25 * a + 0.75 * b]))
