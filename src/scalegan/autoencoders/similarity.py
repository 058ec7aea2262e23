"""PSNR and SSIM: how alike two images are, on floats in [0, 1].

Source of SSIM: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error
visibility to structural similarity", 2004, eq. (13), with its constants: a Gaussian window of
11x11 and deviation 1.5, K1 = 0.01, K2 = 0.03. Windows lie wholly within the image. Of color, the
mean over the channels is taken (the paper: luma alone). Images smaller than the window get one
as large as fits.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW, DEVIATION = 11, 1.5
C1, C2 = 0.01**2, 0.03**2

Images = Float[Tensor, "N C H W"]


# PSNR = -10 log10(mean of (a - b)^2), for values up to 1.
def psnr(a: Images, b: Images) -> Float[Tensor, " N"]:
    """Peak signal-to-noise ratio in dB; infinite for equal images."""
    return -10 * (a.double() - b.double()).square().flatten(1).mean(dim=1).log10()


# SSIM = (2 ma mb + C1) (2 sab + C2) / ((ma^2 + mb^2 + C1) (sa^2 + sb^2 + C2)), in each window;
# means m, variances s^2, covariance sab; Wang et al. 2004, eq. (13).
def ssim(a: Images, b: Images) -> Float[Tensor, " N"]:
    """Structural similarity: 1 for equal images, about 0 for unrelated ones."""
    length = min(WINDOW, *(side - (side + 1) % 2 for side in a.shape[-2:]))
    places = torch.arange(length, device=a.device, dtype=a.dtype) - length // 2
    weights = torch.exp(-(places**2) / (2 * DEVIATION**2))
    weights = weights / weights.sum()
    channels = a.shape[1]

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, weights.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
        return F.conv2d(x, weights.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return (luminance * structure).flatten(1).mean(dim=1)


def dissimilarity(a: Images, b: Images, smallest: int = 8) -> Float[Tensor, " N"]:
    """1 - SSIM, mean over the image and its halvings down to `smallest`: up to three scales."""
    terms = []
    for _ in range(3):
        terms.append(1 - ssim(a, b))
        if min(a.shape[-2:]) < 2 * smallest:
            break
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return torch.stack(terms).mean(dim=0)
