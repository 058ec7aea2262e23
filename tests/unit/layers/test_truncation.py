import math

import pytest
import torch

from scalegan.layers.truncation import truncated_normal


@pytest.mark.parametrize("threshold", [0.02, 0.5, 1.0, 2.0])
def test_redrawn_noise_is_truncated_normal(threshold: float) -> None:
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    cut = truncated_normal(z, threshold)
    assert cut.abs().max() <= threshold
    # Its distribution function, at a few places; five standard errors.
    inside = math.erf(threshold / math.sqrt(2))
    for share in (-0.8, -0.3, 0.0, 0.4, 0.9):
        expected = 0.5 + 0.5 * math.erf(share * threshold / math.sqrt(2)) / inside
        found = (cut <= share * threshold).double().mean().item()
        assert found == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(200_000))


def test_noise_within_a_wide_threshold_stays() -> None:
    z = torch.randn(50, 3)
    for threshold in (6.0, 50.0):
        assert torch.equal(truncated_normal(z, threshold), z)
    far = truncated_normal(torch.tensor([9.0, -40.0]), 1.0)
    assert far.isfinite().all() and far.abs().max() <= 1
