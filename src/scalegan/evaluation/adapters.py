"""What the table of metrics calls where a number takes more than two sides: dice, or a classifier.

Rows are shuffled by seed where their order counts, for folders are sorted by class.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from scalegan.interfaces import Labels
from scalegan.metrics import frechet
from scalegan.metrics import inception_score as scores
from scalegan.metrics.statistics import Moments
from scalegan.runtime.rng import stream

Fit = Callable[[Any, Any, list[str]], Callable[[Any], Any]]


def distance_infinity(
    real: Moments, fake: Float[Tensor, "M E"], seed: int, num_sizes: int = 15
) -> frechet.Extrapolated:
    """FD-infinity on rows in random order."""
    return frechet.frechet_infinity(real, _shuffled(fake, seed), num_sizes)


def inception_score(logits: Float[Tensor, "N K"], seed: int, splits: int = 10) -> scores.Score:
    """The Inception Score of rows in random order."""
    return scores.inception_score(_shuffled(logits, seed), splits)


def classification_accuracy_score(
    fit: Fit,
    real: UInt8[Tensor, "N 3 P P"],
    real_labels: Labels,
    fake: UInt8[Tensor, "M 3 P P"],
    fake_labels: Int64[Tensor, " M"],
    num_classes: int,
) -> float:
    """Accuracy on real images of a classifier trained on samples alone (arXiv 1905.10887).

    The real images should be ones that the generator was not trained on.

    Args:
        fit: trains on (images, labels, class names); gives a function to features with logits.
    """
    classifier = fit(fake, fake_labels, [str(i) for i in range(num_classes)])
    best = torch.cat([classifier(part).logits.argmax(dim=1).cpu() for part in real.split(512)])
    return (best == real_labels).double().mean().item()


def _shuffled(rows: Tensor, seed: int) -> Tensor:
    return rows[torch.randperm(len(rows), generator=stream(seed, "rows"))]
