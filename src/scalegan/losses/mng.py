"""Multi-level noise-perturbed guidance: the discriminator sees coarser levels noisier.

Source: GAT (arXiv 2509.24935). t is the share of noise of a level: a level I is shown as
(1 - t) I + n with noise n of standard deviation t, correlated over the levels so that a coarser
view is a further degraded finer one.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def noise_schedule(num_levels: int, min_information: float, floor: float) -> Float[Tensor, " L"]:
    """Shares of noise t, coarse to fine, in float64: 0.885, 0.76, 0.51, 0.01 by default."""
    coarseness = 1 - torch.arange(num_levels, dtype=torch.float64) / max(num_levels - 1, 1)
    if num_levels == 1:
        coarseness.zero_()  # the only level is the finest
    return 1 - min_information**coarseness + floor


def increments(shares: Float[Tensor, " L"]) -> Float[Tensor, " L"]:
    """How much each level adds to the noise-to-signal ratio of the finer ones, coarse to fine.

    In units of the signal a level has noise of deviation t / (1 - t), and independent noises add
    in squares; so the recursion of the paper over levels is a plain running sum.
    """
    squares = (shares / (1 - shares)).square().flip(0)
    return squares.diff(prepend=squares.new_zeros(1)).sqrt().flip(0)


def correlated_noise(
    draws: Float[Tensor, "N L C H W"], shares: Float[Tensor, " L"]
) -> Float[Tensor, "N L C H W"]:
    """Noise of standard deviation `shares`, each level's containing that of the finer ones.

    Args:
        draws: standard normal, one per level, coarse to fine.
    """
    shape = (-1, 1, 1, 1)
    scaled = draws * increments(shares).view(shape).to(draws)
    # The sum runs from the finest level to the coarsest.
    ratio = scaled.flip(1).cumsum(dim=1).flip(1)
    return ratio * (1 - shares).view(shape).to(draws)


def perturb(
    levels: Float[Tensor, "N M C H W"],
    noise: Float[Tensor, "N L C H W"],
    shares: Float[Tensor, " L"],
) -> Float[Tensor, "N L C H W"]:
    """Mix levels with their noise. M is L, or 1 for a real sample that stands for all levels."""
    return levels * (1 - shares).view(-1, 1, 1, 1).to(levels) + noise
