"""Penalties on the slope of the discriminator."""

import torch
from jaxtyping import Float
from torch import Tensor


def nearby(samples: Float[Tensor, "..."], sigma: float) -> Float[Tensor, "..."]:
    """Samples moved by Gaussian noise. Levels that share one image are moved alike."""
    return samples + sigma * torch.randn_like(samples)


def finite_difference(
    logits: Float[Tensor, "N K"], moved_logits: Float[Tensor, "N K"], sigma: float
) -> Float[Tensor, " N"]:
    """Squared slope of the summed logits between samples and `nearby` ones (GAT, approximated R1).

    Its expectation over the moves is the squared gradient norm, for a discriminator that is
    linear over a distance of sigma. Both passes are differentiated.
    """
    return ((logits - moved_logits) / sigma).sum(dim=1).square()
