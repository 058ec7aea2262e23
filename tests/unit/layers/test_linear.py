import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scalegan.ops import linear
from scalegan.ops.linear import Linear, affine, prefers_onednn, product

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


def gradients(function: object, *inputs: Tensor) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    result = function(*leaves)  # type: ignore[operator]
    weights = torch.linspace(-1, 1, result.numel()).view_as(result)
    return [result.detach(), *torch.autograd.grad((result * weights).sum(), leaves)]


@needs_onednn
@pytest.mark.parametrize("shape", [(5, 7, 12), (3, 12), (1, 1, 12), (2, 3, 4, 12)])
@pytest.mark.parametrize("outputs", [1, 8, 31])
def test_the_product_and_its_gradients(shape: tuple[int, ...], outputs: int) -> None:
    x, weight, bias = torch.randn(shape), torch.randn(outputs, 12), torch.randn(outputs)
    for a, b in zip(
        gradients(product, x, weight, bias), gradients(F.linear, x, weight, bias), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@needs_onednn
def test_gradients_of_gradients() -> None:
    inputs = (torch.randn(2, 3).double(), torch.randn(4, 3).double(), torch.randn(4).double())
    leaves = [tensor.float().requires_grad_() for tensor in inputs]

    def slope(function: object) -> list[Tensor]:
        (of_x,) = torch.autograd.grad(
            function(*leaves).square().sum(),
            leaves[0],
            create_graph=True,  # type: ignore[operator]
        )
        return list(torch.autograd.grad(of_x.square().sum(), leaves))

    for a, b in zip(slope(product), slope(F.linear), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


@needs_onednn
def test_only_gradients_that_are_asked_for() -> None:
    x, weight = torch.randn(2, 3, requires_grad=True), torch.randn(4, 3)
    product(x, weight, None).sum().backward()
    assert x.grad is not None and weight.grad is None


@needs_onednn
@pytest.mark.parametrize("is_by_onednn", [True, False])
def test_the_layer_either_way(is_by_onednn: bool) -> None:
    layer = Linear(6, 9)
    layer.is_by_onednn = is_by_onednn
    x = torch.randn(2, 5, 6)
    expected = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        affine(layer, x, slice(3, None)), expected[..., 3:], atol=1e-6, rtol=1e-5
    )


def test_reduced_precision_and_other_devices_go_the_usual_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "product", None)  # must not be called
    layer = Linear(4, 4)
    layer.is_by_onednn = True
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 4)).dtype == torch.bfloat16
    assert layer.to("meta")(torch.empty(2, 4, device="meta")).shape == (2, 4)
    assert layer.to_empty(device="cpu").double()(torch.zeros(2, 4).double()).shape == (2, 4)


def test_only_amd_processors_and_only_an_operator_that_does_what_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def choice(processor: str, operator: object) -> bool:
        prefers_onednn.cache_clear()
        monkeypatch.setattr(linear, "_processor", lambda: processor)
        monkeypatch.setattr(linear, "_through_onednn", operator)
        return prefers_onednn()

    def gone(*_: object) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    def changed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x, weight)

    has_onednn = torch.backends.mkldnn.is_available()
    assert choice("vendor_id : AuthenticAMD", F.linear) is has_onednn
    assert not choice("vendor_id : GenuineIntel", F.linear)
    assert not choice("vendor_id : AuthenticAMD", gone)
    assert not choice("vendor_id : AuthenticAMD", changed)
    prefers_onednn.cache_clear()


def test_it_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    ours = Linear(3, 5)
    torch.manual_seed(0)
    theirs = nn.Linear(3, 5)
    assert not ours.is_by_onednn  # too small to gain
    assert Linear(256, 256).is_by_onednn is prefers_onednn()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.weight, theirs.weight)
