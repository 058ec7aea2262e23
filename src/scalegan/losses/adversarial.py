"""Adversarial losses, from logits of pairs. Each returns one value per sample.

Real and fake of a pair share the label; logits are compared position by position. Of several logits
per sample the mean counts. softplus(x) = log(1 + exp(x)).
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
    """Of (real_logits, fake_logits), or of fake_logits where it takes no real ones."""
    is_paired: bool
    """Whether the generator's loss takes real logits, too."""


# E softplus(D(fake) - D(real)): relativistic pairs (arXiv 1807.00734; 2501.05441, section 2)
def relativistic_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """The real sample should get a larger logit than its fake partner."""
    return F.softplus(fake_logits - real_logits).mean(dim=1)


# E softplus(D(real) - D(fake))
def relativistic_generator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """The fake sample should get a larger logit than its real partner."""
    return F.softplus(real_logits - fake_logits).mean(dim=1)


# E -log sigmoid(D(real)) - log(1 - sigmoid(D(fake))) (arXiv 1406.2661, eq. 1)
def logistic_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """Real samples should get positive logits, fake ones negative."""
    return F.softplus(-real_logits).mean(dim=1) + F.softplus(fake_logits).mean(dim=1)


# E -log sigmoid(D(fake)) (arXiv 1406.2661, section 3)
def logistic_generator(fake_logits: Logits) -> Float[Tensor, " N"]:
    """Fake samples should get positive logits: the non-saturating loss."""
    return F.softplus(-fake_logits).mean(dim=1)


# E max(0, 1 - D(real)) + max(0, 1 + D(fake)) (arXiv 1705.02894)
def hinge_discriminator(real_logits: Logits, fake_logits: Logits) -> Float[Tensor, " N"]:
    """Real samples should get logits above one, fake ones below minus one."""
    return F.relu(1 - real_logits).mean(dim=1) + F.relu(1 + fake_logits).mean(dim=1)


# -E D(fake) (arXiv 1705.02894)
def hinge_generator(fake_logits: Logits) -> Float[Tensor, " N"]:
    """Fake samples should get large logits."""
    return -fake_logits.mean(dim=1)
