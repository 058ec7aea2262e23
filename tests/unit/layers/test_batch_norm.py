import pytest
import torch
from torch import nn

from scalegan.layers.batch_norm import PlainNorm, batch_statistics, standing_statistics


def maps(seed: int = 0, images: int = 4) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 3 + 2 * torch.randn(images, 5, 3, 3, generator=rng)


def test_statistics_by_hand() -> None:
    x = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 2, 1)
    mean, variance, count = batch_statistics(x)
    assert (mean.item(), variance.item(), count) == (4, 5, 4)


def test_it_is_the_librarys_batch_norm() -> None:
    ours, library = PlainNorm(5, eps=1e-3), nn.BatchNorm2d(5, eps=1e-3)
    for norm in (ours, library):
        nn.init.constant_(norm.bias, 0.5)
    nn.init.constant_(ours.gain, 1.5)
    nn.init.constant_(library.weight, 1.5)
    for seed in range(3):
        x, y = (maps(seed).requires_grad_() for _ in range(2))
        made, expected = ours(x), library(y)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
        slope = maps(seed + 9)
        made.backward(slope)
        expected.backward(slope)
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.gain.grad, library.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.mean, library.running_mean)
    torch.testing.assert_close(ours.variance, library.running_var)
    x = maps(7)
    torch.testing.assert_close(ours.eval()(x), library.eval()(x), rtol=1e-5, atol=1e-5)
    assert ours(x.bfloat16()).dtype == torch.bfloat16


def test_standing_statistics_are_plain_means_of_batches() -> None:
    norm = PlainNorm(5, eps=1e-5)
    norm.eval()
    batches = [maps(0), maps(1), maps(2, images=2)]  # a small batch counts as much
    with standing_statistics(norm), torch.no_grad():
        for batch in batches:
            norm(batch)
    kept = [batch_statistics(batch) for batch in batches]
    torch.testing.assert_close(norm.mean, torch.stack([mean for mean, _, _ in kept]).mean(0))
    torch.testing.assert_close(norm.variance, torch.stack([var for _, var, _ in kept]).mean(0))
    assert norm.standing is None


def test_what_fails_leaves_the_statistics_as_they_were() -> None:
    norm = PlainNorm(5, eps=1e-5)
    with pytest.raises(ZeroDivisionError), standing_statistics(norm):
        norm(maps())
        raise ZeroDivisionError
    assert norm.standing is None
    assert not norm.mean.any() and torch.equal(norm.variance, torch.ones(5))
