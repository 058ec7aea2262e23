"""Images in, numbers with their protocol out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from scalegan.interfaces import Images
from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.statistics import moments
from scalegan.runtime.rng import stream

Features = Callable[[Images], Float[Tensor, "N E"]]


@dataclass(frozen=True)
class Verdict:
    """What a judge of the run's own real images says of generated ones."""

    num_images: int
    accuracy: float
    """Share of class-conditional samples that the judge gives their class."""
    real_accuracy: float
    """The same for real images that the judge has not seen."""
    distance: float
    """Frechet distance of samples to all real images in the judge's features."""
    real_distance: float
    """The same between two random halves of the real images: the floor."""


@torch.no_grad()
def distances(
    real: Images, fake: UInt8[Tensor, "M 3 P P"], features: Features, seed: int
) -> tuple[float, float]:
    """Frechet distance of fake to real, and of two random halves of real to each other."""
    real_features, fake_features = (
        torch.cat([features(part) for part in images.split(512)]) for images in (real, fake)
    )
    order = torch.randperm(len(real), generator=stream(seed, "halves"))
    first, second = (moments(real_features[half]) for half in order.chunk(2))
    distance = frechet_distance(moments(real_features), moments(fake_features))
    return distance, frechet_distance(first, second)
