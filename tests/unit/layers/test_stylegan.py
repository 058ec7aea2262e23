import math

import pytest
import torch

from scalegan.layers.resample import convolve
from scalegan.layers.stylegan import ScaledConv, StyledConv, modulated_convolve


@pytest.mark.parametrize("resample", ["", "up", "down"])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("side", [1, 3])
def test_modulation_is_a_kernel_of_its_own_per_sample(
    resample: str, demodulate: bool, side: int
) -> None:
    x, weight, style = torch.randn(3, 4, 6, 6), torch.randn(5, 4, side, side), torch.randn(3, 4)
    ours = modulated_convolve(x, weight, style, resample, demodulate)  # type: ignore[arg-type]
    for sample, scale, found in zip(x, style, ours, strict=True):
        kernel = weight * scale[:, None, None]
        if demodulate:
            kernel = kernel / kernel.square().sum(dim=(1, 2, 3), keepdim=True).add(1e-8).sqrt()
        expected = convolve(sample[None], kernel, resample)[0]  # type: ignore[arg-type]
        assert torch.allclose(found, expected, atol=1e-5)


@torch.no_grad()
def test_layers_keep_the_variance_of_noise() -> None:
    x, w = torch.randn(64, 32, 8, 8), torch.randn(64, 16)
    for layer in (ScaledConv(32, 48, 3, is_linear=True), StyledConv(32, 48, 3, 16)):
        out = layer(x, w) if isinstance(layer, StyledConv) else layer(x)
        assert out[..., 1:-1, 1:-1].var() == pytest.approx(1, rel=0.1)


def test_without_a_style_it_is_a_plain_convolution() -> None:
    layer, x = StyledConv(3, 4, 3, style=0), torch.randn(2, 3, 5, 5)
    assert layer.affine is None
    expected = torch.nn.functional.conv2d(x, layer.weight / math.sqrt(27), padding=1)
    assert torch.allclose(layer(x, torch.randn(2, 8)), expected, atol=1e-6)
