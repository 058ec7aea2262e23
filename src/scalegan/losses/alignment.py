"""Alignment of the discriminator's features with those of a frozen teacher.

Source: GAT (arXiv 2509.24935, v1), after REPA (arXiv 2410.06940). G side of the teacher's token
grid.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scalegan.interfaces import IMAGENET_DEVIATION, IMAGENET_MEAN, Images


def teacher_input(images: Images, side: int) -> Float[Tensor, "N 3 Q Q"]:
    """Normalize images, then resize them to the teacher's side."""
    mean, deviation = (
        torch.tensor(values, device=images.device).view(3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    return F.interpolate((images.float() / 255 - mean) / deviation, size=side, mode="bicubic")


# 1 - cos(f_cls, teacher_cls) and mean_p (1 - cos(f_p, teacher_p)); their sum is the loss
def alignment(
    features: Float[Tensor, "N S E"], teacher_features: Float[Tensor, "N U E"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """One minus the cosine, of the class token, and averaged over the patches.

    The teacher's patches are resized to the discriminator's grid where the two differ.
    """
    token, patches = features[:, 0], features[:, 1:]
    teacher_token, teacher_patches = teacher_features[:, 0], teacher_features[:, 1:]
    if patches.shape[1] != teacher_patches.shape[1]:
        teacher_patches = _resize(teacher_patches, math.isqrt(patches.shape[1]))
    distance = 1 - F.cosine_similarity(token, teacher_token, dim=-1)
    return distance, (1 - F.cosine_similarity(patches, teacher_patches, dim=-1)).mean(dim=1)


def _resize(patches: Float[Tensor, "N U E"], grid: int) -> Float[Tensor, "N T E"]:
    old = math.isqrt(patches.shape[1])
    maps = patches.mT.unflatten(2, (old, old))  # (N, E, G, G)
    return F.interpolate(maps, size=grid, mode="bicubic").flatten(2).mT
