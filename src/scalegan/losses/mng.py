"""Multi-level noise-perturbed guidance: the discriminator sees coarser levels with more noise.

Source: GAT (arXiv 2509.24935, v1 and its authors' code), section on multi-level noise-perturbed
image guidance. t_l is the noise level of image level l: an image I_l is shown as (1 - t_l) I_l +
n_l, with noise n_l of standard deviation t_l, correlated over the levels so that a coarser image is
a further degraded finer one.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


# t_l = 1 - min_information^(1 - l / (L - 1)) + floor, for l = 0 (coarsest) ... L - 1; linear,
# for comparison with it: t_l = (1 - l / (L - 1)) (1 - min_information) + floor
def noise_schedule(
    num_levels: int,
    min_information: float,
    floor: float,
    schedule: Literal["exponential", "linear"] = "exponential",
) -> Float[Tensor, " L"]:
    """Noise levels t, coarse to fine, in float64: 0.885, 0.76, 0.51, 0.01 by default."""
    coarseness = 1 - torch.arange(num_levels, dtype=torch.float64) / max(num_levels - 1, 1)
    if num_levels == 1:
        coarseness.zero_()  # the only level is the finest
    if schedule == "linear":
        return coarseness * (1 - min_information) + floor
    return 1 - min_information**coarseness + floor


# s_l^2 - s_(l+1)^2 with s = t / (1 - t), and s_L = 0: the square of what level l adds
def increments(noise_levels: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
    """How much each level adds to the noise-to-signal ratio of the finer ones, coarse to fine.

    In units of the signal a level has noise of deviation t / (1 - t), and independent noises add
    in squares; so the recursion of the paper over levels is a plain running sum.
    """
    squares = (noise_levels / (1 - noise_levels)).square().flip(0)
    return squares.diff(prepend=squares.new_zeros(1)).sqrt().flip(0)


# From the finest level on, with r = (1 - t_l) / (1 - t_(l+1)) and e_l standard normal:
#   n_l = r n_(l+1) + sqrt(t_l^2 - t_(l+1)^2 r^2) e_l
# Divided by 1 - t_l this is n_l / (1 - t_l) = n_(l+1) / (1 - t_(l+1)) + increment_l e_l.
def correlated_noise(
    draws: Float[Tensor, "N L C H W"], noise_levels: Float[Tensor, " L"]
) -> Float[Tensor, "N L C H W"]:
    """Noise of standard deviation `noise_levels`, each containing that of the finer levels.

    Args:
        draws: standard normal, one per level, coarse to fine.
    """
    shape = (-1, 1, 1, 1)
    scaled = draws * increments(noise_levels).view(shape).to(draws)
    # The sum runs from the finest level to the coarsest.
    ratio = scaled.flip(1).cumsum(dim=1).flip(1)
    return ratio * (1 - noise_levels).view(shape).to(draws)


# (1 - t_l) I_l + n_l
def perturb(
    levels: Float[Tensor, "N M C H W"],
    noise: Float[Tensor, "N L C H W"],
    noise_levels: Float[Tensor, " L"],
) -> Float[Tensor, "N L C H W"]:
    """Mix levels with their noise. M is L, or 1 for a real sample that stands for all levels."""
    return levels * (1 - noise_levels).view(-1, 1, 1, 1).to(levels) + noise
