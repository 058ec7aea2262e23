"""Adversarial losses, from logits of pairs. Each returns one value per sample.

Real and fake of a pair share the label; logits are compared position by position.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Logits = Float[Tensor, "N K"]
Loss = Callable[[Logits, Logits], Float[Tensor, " N"]]


class Pair(NamedTuple):
    """The loss of the discriminator and that of the generator, both (real_logits, fake_logits)."""

    discriminator: Loss
    generator: Loss


def relativistic_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """The real sample should look more real than its fake partner (arXiv 1807.00734)."""
    return F.softplus(fake_logits - real_logits).mean(dim=1)


def relativistic_generator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """The fake sample should look more real than its real partner."""
    return F.softplus(real_logits - fake_logits).mean(dim=1)


def logistic_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """Real samples should look real and fake ones fake, each for itself (arXiv 1406.2661)."""
    return (F.softplus(fake_logits) + F.softplus(-real_logits)).mean(dim=1)


def logistic_generator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """The fake sample should look real; non-saturating, and real samples play no part."""
    return F.softplus(-fake_logits).mean(dim=1)
