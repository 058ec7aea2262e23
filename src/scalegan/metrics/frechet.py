"""The Frechet distance between two Gaussians (Dowson and Landau 1982), as FID uses it."""

import torch

from scalegan.metrics.statistics import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean difference|^2 + Tr(A + B - 2 (A B)^(1/2)).

    The trace of the root is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is
    symmetric: no complex parts, no failure where a covariance is singular.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    trace_of_root = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    traces = a.covariance.trace() + b.covariance.trace()
    return float((a.mean - b.mean).square().sum() + traces - 2 * trace_of_root)
