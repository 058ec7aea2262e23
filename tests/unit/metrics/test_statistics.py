import numpy as np
import torch

from scalegan.metrics.statistics import moments


def test_moments_by_hand() -> None:
    _, mean, covariance = moments(torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
    assert mean.tolist() == [1, 3]
    assert covariance.tolist() == [[2, 4], [4, 8]]
    assert mean.dtype == covariance.dtype == torch.float64


def test_moments_equal_numpy_far_from_zero() -> None:
    features = 1e4 + torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    _, mean, covariance = moments(features)
    np.testing.assert_allclose(mean, features.double().numpy().mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(features.double().numpy().T), rtol=1e-9)
