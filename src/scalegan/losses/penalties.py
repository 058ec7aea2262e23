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


def exact(logits: Float[Tensor, "N K"], samples: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
    """Squared gradient norm of the summed logits (R1 on real samples, arXiv 1801.04406).

    The sum, not the mean: with K = 25 logits the mean would be 625 times weaker. The result can be
    differentiated; that needs a second derivative, which fused attention does not have.

    Args:
        logits: of `samples`, which required a gradient before the discriminator saw them.
    """
    (slope,) = torch.autograd.grad(logits.float().sum(), samples, create_graph=True)
    return slope.flatten(1).square().sum(dim=1)
