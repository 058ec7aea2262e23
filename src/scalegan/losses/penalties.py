"""Penalties on the slope of the discriminator, and of the generator."""

import math

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


def squared_slope(
    logits: Float[Tensor, "N K"], samples: Float[Tensor, "N ..."]
) -> Float[Tensor, " N"]:
    """Squared gradient norm of the summed logits, exactly: R1 on real samples (arXiv 1801.04406).

    The gradient is differentiated again, so attention must use the math kernel. Where a layer looks
    across the batch, a sample's gradient is that of all logits, as in the reference.

    Args:
        samples: what the logits were made of, with `requires_grad`.
    """
    (slope,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
    return slope.square().flatten(1).sum(dim=1)


def path_lengths(
    samples: Float[Tensor, "N *S"], w: Float[Tensor, "N R Y D"], noise: Float[Tensor, "N *S"]
) -> Float[Tensor, " N"]:
    """How far a sample moves with its style, in a random direction (arXiv 1912.04958).

    The root of the mean over rows and layers of the squared gradient norm: one length per sample.
    The authors of GANsformer sum and average over other axes by mistake (its quirk 6).

    Args:
        samples: made of `w` with their graph; w is the style of each layer by itself.
        noise: standard normal, the direction.
    """
    direction = noise / math.sqrt(samples.shape[-1] * samples.shape[-2])
    (slope,) = torch.autograd.grad((samples * direction).sum(), w, create_graph=True)
    return slope.square().sum(dim=-1).mean(dim=(1, 2)).sqrt()


def path_length_penalty(
    lengths: Float[Tensor, " N"], mean: Float[Tensor, ""], decay: float = 0.99
) -> tuple[Float[Tensor, " N"], Float[Tensor, ""]]:
    """Squared deviation from the running mean of all lengths, and that mean's next value.

    Args:
        mean: of the lengths so far, starting at zero.
        decay: of the mean.
    """
    mean = torch.lerp(lengths.mean(), mean, decay)
    return (lengths - mean).square(), mean.detach()
