"""Penalties on the slope of the discriminator, and on weights."""

from collections.abc import Collection, Iterable

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


def orthogonality(
    weights: Iterable[tuple[str, Tensor]],
    skipped: Collection[str] = (),
    with_diagonal: bool = False,
) -> Float[Tensor, ""]:
    """Half the sum of squared products of different rows, over all weights as matrices.

    BigGAN's regulariser (arXiv 1809.11096, eq. 3): its generator's loss gets 1e-4 times this. The
    half is the authors': they add 2 (W W^T * (1 - I)) W to the gradient.

    Args:
        weights: by name, as `named_parameters` gives them; those of fewer than two axes are passed
            over.
        skipped: names to leave out: the shared class embedding.
        with_diagonal: also ask for rows of length one, as the classic form does.
    """
    total = torch.zeros(())
    for name, weight in weights:
        if weight.ndim < 2 or name in skipped:
            continue
        matrix = weight.flatten(1)
        products = matrix @ matrix.mT
        eye = torch.eye(len(matrix), device=weight.device)
        wrong = products - eye if with_diagonal else products * (1 - eye)
        total = total.to(weight.device) + wrong.square().sum() / 2
    return total
