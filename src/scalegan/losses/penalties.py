"""Penalties: on the slope of either network, and on the generator's weights."""

from collections.abc import Iterable

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


def inconsistency(
    logits: Float[Tensor, "N K"], augmented_logits: Float[Tensor, "N K"]
) -> Float[Tensor, " N"]:
    """Mean square of how far augmentation moves the logits (bCR, arXiv 2002.04724)."""
    return (logits - augmented_logits).square().mean(dim=1)


def path_lengths(
    images: Float[Tensor, "N C H W"], w: Float[Tensor, "N *S"], draws: Float[Tensor, "N C H W"]
) -> Float[Tensor, " N"]:
    """How far an image moves per step of its style, in a random direction of the image.

    One length per image: the root of the mean over rows and layers of the squared norm over the
    last axis (StyleGAN2, arXiv 1912.04958, section 3.2; GANsformer spec, quirk 6).

    Args:
        images: made from w, which required a gradient before.
        draws: standard normal.
    """
    direction = draws / (images.shape[-2] * images.shape[-1]) ** 0.5
    (slope,) = torch.autograd.grad((images * direction).sum(), w, create_graph=True)
    return slope.square().sum(dim=-1).view(len(w), -1).mean(dim=1).sqrt()


def orthogonality(weights: Iterable[Tensor], with_diagonal: bool = False) -> Float[Tensor, ""]:
    """Half the sum of squared products of different rows, over all weights as matrices.

    BigGAN's regularizer (arXiv 1809.11096, eq. 3). The half is the authors': their code adds
    2 (W W^T * (1 - I)) W to the gradient.

    Args:
        weights: of two axes or more.
        with_diagonal: also ask for rows of length one, as the classic form does.
    """
    total = torch.zeros(())
    for weight in weights:
        matrix = weight.flatten(1)
        products = matrix @ matrix.mT
        wanted = torch.eye(len(matrix)).to(products) if with_diagonal else products.diag().diag()
        total = total.to(weight.device) + (products - wanted).square().sum() / 2
    return total
