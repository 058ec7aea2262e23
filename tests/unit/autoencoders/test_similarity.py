import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from scalegan.autoencoders.similarity import C1, dissimilarity, psnr, ssim


def pair(side: int = 24, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    a = torch.rand(2, channels, side, side, generator=rng, dtype=torch.float64)
    noise = torch.randn(a.shape, generator=rng, dtype=torch.float64)
    return a, (0.8 * a + 0.1 + 0.1 * noise).clamp(0, 1)


def test_psnr_by_hand() -> None:
    a = torch.zeros(2, 1, 2, 2)
    b = a.clone()
    b[0, 0, 0, 0], b[1] = 1, 0.1  # mean squares 1/4 and 1/100
    expected = [10 * math.log10(4), 20]
    assert psnr(a, b).tolist() == pytest.approx(expected, abs=1e-6)
    assert psnr(a, a).tolist() == [math.inf, math.inf]


def test_ssim_of_constants_is_luminance_alone() -> None:
    a, b = torch.full((1, 1, 16, 16), 0.25), torch.full((1, 1, 16, 16), 0.75)
    expected = (2 * 0.25 * 0.75 + C1) / (0.25**2 + 0.75**2 + C1)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-4)
    assert expected == pytest.approx(0.6000639, abs=1e-6)


def test_ssim_is_the_papers() -> None:
    """Equation (13) written out with scipy's Gaussian, whose radius 5 is the window of 11."""
    a, b = pair()

    def blur(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, 1.5, radius=5, axes=(2, 3))[..., 5:-5, 5:-5]

    x, y = a.numpy(), b.numpy()
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    top = (2 * mx * my + 0.0001) * (2 * cov + 0.0009)
    bottom = (mx**2 + my**2 + 0.0001) * (vx + vy + 0.0009)
    assert ssim(a, b).tolist() == pytest.approx((top / bottom).mean(axis=(1, 2, 3)).tolist())


@pytest.mark.parametrize("side", [1, 2, 5, 8, 11, 12])
def test_ssim_of_small_images(side: int) -> None:
    a, b = pair(side)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])
    assert torch.equal(ssim(a, b), ssim(b, a)) and (ssim(a, b) < 1).all()


def test_ssim_notices_structure_that_psnr_does_not() -> None:
    """Wang and Bovik's point: a shift of brightness hurts less than noise of the same error."""
    a = pair(32)[0] * 0.5 + 0.2
    noise = torch.where(torch.rand(a.shape) < 0.5, -0.1, 0.1).double()
    assert psnr(a, a + 0.1).tolist() == pytest.approx(psnr(a, a + noise).tolist())
    assert (ssim(a, a + 0.1) > ssim(a, a + noise)).all()


@pytest.mark.parametrize(("side", "scales"), [(8, 1), (16, 2), (32, 3), (64, 3)])
def test_dissimilarity_is_the_mean_over_scales(side: int, scales: int) -> None:
    a, b = pair(side)
    found, expected = dissimilarity(a, b), torch.zeros(2, dtype=torch.float64)
    for _ in range(scales):
        expected += (1 - ssim(a, b)) / scales
        a, b = (torch.nn.functional.avg_pool2d(x, 2) for x in (a, b))
    assert torch.allclose(found, expected)
