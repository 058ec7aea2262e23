"""The truncated normal distribution, from normal noise (BigGAN's truncation trick)."""

import torch
from jaxtyping import Float
from torch import Tensor


def truncated_normal(z: Float[Tensor, "..."], threshold: float) -> Float[Tensor, "..."]:
    """Normal noise made to lie within +-threshold > 0; what does already stays as it is.

    What lies beyond is redrawn, as a function of itself: given |z| > t, the share of the tail that
    lies beyond |z| is uniform, and it becomes a quantile of the truncated normal.
    """
    tail = torch.special.ndtr(torch.tensor(-threshold, dtype=torch.float64, device=z.device))
    uniform = torch.special.ndtr(-z.double().abs()) / tail
    redrawn = torch.special.ndtri(tail + uniform * (1 - 2 * tail))
    return torch.where(z.abs() > threshold, redrawn.to(z.dtype), z)
