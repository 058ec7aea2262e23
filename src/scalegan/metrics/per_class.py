"""Frechet distance class by class (StudioGAN's iFID, and which classes are worst)."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scalegan.errors import DataError
from scalegan.metrics.frechet import frechet_distance_of_features


class PerClass(NamedTuple):
    """Distances by class, and which classes have none."""

    distances: dict[int, float]
    missing: list[int]
    """Classes with fewer than two real or generated samples."""
    mean: float
    """Over the classes that have a distance; to be shown with the missing ones. NaN if none."""
    real_counts: list[int]
    fake_counts: list[int]
    """Few samples bias each distance strongly: compare at identical counts only."""


def per_class_distances(
    real: Float[Tensor, "N E"],
    real_labels: Int64[Tensor, " N"],
    fake: Float[Tensor, "M E"],
    fake_labels: Int64[Tensor, " M"],
    num_classes: int,
) -> PerClass:
    """Frechet distance between real and generated samples of each class, and their mean.

    Raises:
        DataError: if a label is outside 0 .. num_classes - 1.
    """
    counts = []
    for labels in (real_labels, fake_labels):
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            raise DataError(f"a label is outside 0..{num_classes - 1}")
        counts.append(torch.bincount(labels, minlength=num_classes).tolist())
    distances, missing = {}, []
    for label in range(num_classes):
        if min(counts[0][label], counts[1][label]) < 2:  # one row has no covariance
            missing.append(label)
            continue
        distances[label] = frechet_distance_of_features(
            real[real_labels == label], fake[fake_labels == label]
        )
    mean = sum(distances.values()) / len(distances) if distances else float("nan")
    return PerClass(distances, missing, mean, *counts)
