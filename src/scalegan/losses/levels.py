"""How the levels of a generator agree: CAT's consistency term, and what each level does.

Source: "CAT", arXiv 2605.26449, whose authors' code is not public. The weights of the term follow
an independent account (docs/deviations.md, `cat`); the authors name the three diagnostics.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scalegan.interfaces import Levels


# mean over k < L of |I_k - I_L|^2 / (L - k), as 1/3, 1/2 and 1 of four levels
def disagreement(levels: Levels) -> Float[Tensor, " N"]:
    """Weighted mean square distance of the levels to the last one, which is pulled back by them."""
    count = levels.shape[1]
    weights = 1 / torch.arange(count - 1, 0, -1, device=levels.device)  # (L - 1,), coarse to fine
    apart = (levels[:, :-1] - levels[:, -1:]).square().flatten(2).mean(dim=2)  # (N, L - 1)
    return (weights * apart).mean(dim=1)


@torch.no_grad()
def diagnostics(levels: Levels) -> dict[str, Float[Tensor, " N"]]:
    """What every level but the first does, by name, coarse to fine from 2.

    `distance`: of the level before to the last one, as a root mean square. `rewritten`: the
    level's change of the one before, relative to the norm of that. `cosine`: between this change
    and the one that remained to be made to reach the last level; of the last one it is 1.
    """
    flat = levels.flatten(2)  # (N, L, F)
    change = flat.diff(dim=1)
    remaining = flat[:, -1:] - flat[:, :-1]
    found = {
        "distance": remaining.square().mean(dim=2).sqrt(),
        "rewritten": change.norm(dim=2) / flat[:, :-1].norm(dim=2).clamp(min=1e-8),
        "cosine": torch.cosine_similarity(change, remaining, dim=2),
    }
    return {
        f"g/level_{i + 2}_{name}": value[:, i]
        for name, value in found.items()
        for i in range(value.shape[1])
    }
