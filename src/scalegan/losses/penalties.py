"""Penalties on the gradients of either network, and on the generator's weights.

Sources: GAT (arXiv 2509.24935, v1) for finite differences; R1 and R2 of arXiv 1801.04406 (v4);
balanced consistency, arXiv 2002.04724; centering, arXiv 2511.22475; path length of StyleGAN2, arXiv
1912.04958 (v2); orthogonal regularization of BigGAN, arXiv 1809.11096 (v2).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def draw_moves(samples: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Standard normal draws to move samples by; a level that stands for all has one draw."""
    return torch.randn_like(samples)


def nearby(
    samples: Float[Tensor, "..."], draws: Float[Tensor, "..."], sigma: float
) -> Float[Tensor, "..."]:
    """Samples moved by sigma times standard normal draws."""
    return samples + sigma * draws


# R = ((D(x) - D(x + sigma e)) / sigma)^2, e standard normal (GAT, section on stable training)
def finite_difference(
    logits: Float[Tensor, "N K"], moved_logits: Float[Tensor, "N K"], sigma: float
) -> Float[Tensor, " N"]:
    """Squared slope of the summed logits between samples and `nearby` ones: approximated R1.

    Its expectation over the moves is the squared gradient norm, for a discriminator that is
    linear over a distance of sigma. Both passes are differentiated.
    """
    return ((logits - moved_logits) / sigma).sum(dim=1).square()


# R1 = E_real |grad D(x)|^2, R2 = E_fake |grad D(x)|^2 (arXiv 1801.04406, section 4.1)
def exact(logits: Float[Tensor, "N K"], samples: Float[Tensor, "N ..."]) -> Float[Tensor, " N"]:
    """Squared gradient norm of the summed logits: R1 on real samples, R2 on fake ones.

    The sum, not the mean: with K = 25 logits the mean would be 625 times weaker. The result can be
    differentiated; that needs a second derivative, which fused attention does not have.

    Args:
        logits: of `samples`, which required a gradient before the discriminator saw them.
    """
    (slope,) = torch.autograd.grad(logits.float().sum(), samples, create_graph=True)
    return slope.flatten(1).square().sum(dim=1)


# (D(real) + D(fake))^2 (arXiv 2511.22475)
def off_center(
    real_logits: Float[Tensor, "N K"], fake_logits: Float[Tensor, "N K"]
) -> Float[Tensor, " N"]:
    """Mean square of the sum of a pair's logits, which a relativistic loss leaves free to drift."""
    return (real_logits + fake_logits).square().mean(dim=1)


# |D(x) - D(T(x))|^2, on real and on fake samples (arXiv 2002.04724, section 2)
def inconsistency(
    logits: Float[Tensor, "N K"], augmented_logits: Float[Tensor, "N K"]
) -> Float[Tensor, " N"]:
    """Mean square of how far augmentation moves the logits: balanced consistency."""
    return (logits - augmented_logits).square().mean(dim=1)


# |J_w^T y|_2 = |grad_w (g(w) . y)|_2, y standard normal (StyleGAN2, section 3.2, eq. 4)
def path_lengths(
    images: Float[Tensor, "N C H W"], w: Float[Tensor, "N *S"], draws: Float[Tensor, "N C H W"]
) -> Float[Tensor, " N"]:
    """How far an image moves per step of its style, in a random direction of the image.

    One length per image: the root of the mean over rows and layers of the squared norm over the
    last axis (docs/deviations.md, `path-length`).

    Args:
        images: made from w, which required a gradient before.
        draws: standard normal.
    """
    direction = draws / (images.shape[-2] * images.shape[-1]) ** 0.5
    (slope,) = torch.autograd.grad((images * direction).sum(), w, create_graph=True)
    return slope.square().sum(dim=-1).view(len(w), -1).mean(dim=1).sqrt()


# R(W) = |W W^T * (1 - I)|_F^2 / 2 (BigGAN, eq. 3, with weights transposed)
def orthogonality(weights: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Half the sum of squared products of different rows, over all weights as matrices.

    The half is that of the authors' code, which adds 2 (W W^T * (1 - I)) W to the gradient.

    Args:
        weights: of two axes or more.
    """
    total = torch.zeros(())
    for weight in weights:
        matrix = weight.flatten(1)
        products = matrix @ matrix.mT
        total = total.to(weight.device) + (products - products.diag().diag()).square().sum() / 2
    return total
