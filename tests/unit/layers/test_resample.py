import pytest
import torch

from scalegan.layers.resample import convolve, downsample, smooth, taps, upsample

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


@pytest.mark.parametrize("resample", ["up", "down"])
def test_second_derivatives_exist(resample: str) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda x, weight: convolve(x, weight, resample),  # type: ignore[arg-type]
        (x, weight),
    )
