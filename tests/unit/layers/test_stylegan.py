import math

import pytest
import torch

from scalegan.layers.stylegan import (
    ScaledConv,
    StyledConv,
    convolve,
    downsample,
    modulated_convolve,
    smooth,
    taps,
    upsample,
)

ROW = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def test_the_filter_sums_to_one() -> None:
    assert torch.equal(taps(torch.zeros(1)), torch.outer(ROW, ROW))


def test_constants_stay_away_from_the_edges() -> None:
    x = torch.full((1, 2, 16, 16), 3.0)
    for resampled in (upsample(x), downsample(x), smooth(x, padding=2)):
        assert resampled[..., 2:-2, 2:-2].sub(3).abs().max() < 1e-5


def test_upsampling_is_zero_insertion_and_filtering() -> None:
    x = torch.randn(2, 3, 5, 5)
    apart = torch.zeros(2, 3, 13, 13)  # two zeros before and, with the inserted one, two after
    apart[..., 2:12:2, 2:12:2] = x
    naive = torch.zeros(2, 3, 10, 10)
    kernel = 4 * torch.outer(ROW, ROW)
    for row in range(10):
        for column in range(10):
            patch = apart[..., row : row + 4, column : column + 4]
            naive[..., row, column] = (patch * kernel).sum(dim=(2, 3))
    assert torch.allclose(upsample(x), naive, atol=1e-6)


def test_downsampling_is_the_transpose_of_upsampling_divided_by_four() -> None:
    x, y = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 8, 8)
    assert torch.allclose((upsample(x) * y).sum(), 4 * (x * downsample(y)).sum(), atol=1e-5)


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


@pytest.mark.parametrize("resample", ["up", "down"])
def test_second_derivatives_exist(resample: str) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda x, weight: convolve(x, weight, resample),  # type: ignore[arg-type]
        (x, weight),
    )


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
