"""Adversarial losses, from logits of pairs. Each returns one value per sample.

Real and fake of a pair share the label; logits are compared position by position. Of several logits
per sample the mean counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Logits = Float[Tensor, "N K"]
Loss = Callable[..., Float[Tensor, " N"]]


class Pair(NamedTuple):
    """The loss of the discriminator and that of the generator."""

    discriminator: Loss
    """Of (real_logits, fake_logits)."""
    generator: Loss
    """Of (real_logits, fake_logits), or of fake_logits where it does not look at real samples."""
    is_paired: bool
    """Whether the generator's loss looks at real samples."""


def relativistic_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """The real sample should look more real than its fake partner (arXiv 1807.00734)."""
    return F.softplus(fake_logits - real_logits).mean(dim=1)


def logistic_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """Real samples should get positive logits, fake ones negative (arXiv 1406.2661)."""
    return F.softplus(-real_logits).mean(dim=1) + F.softplus(fake_logits).mean(dim=1)


def logistic_generator(fake_logits: Logits) -> Float[Tensor, " N"]:
    """Fake samples should get positive logits: the non-saturating form."""
    return F.softplus(-fake_logits).mean(dim=1)


def hinge_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """Real samples should get logits above one, fake ones below minus one (arXiv 1705.02894)."""
    return F.relu(1 - real_logits).mean(dim=1) + F.relu(1 + fake_logits).mean(dim=1)


def hinge_generator(fake_logits: Logits) -> Float[Tensor, " N"]:
    """Fake samples should get large logits."""
    return -fake_logits.mean(dim=1)


def relativistic_generator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """The fake sample should look more real than its real partner."""
    return F.softplus(real_logits - fake_logits).mean(dim=1)
