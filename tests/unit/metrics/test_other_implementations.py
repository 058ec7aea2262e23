"""Other people's code on the same features. Installed beside us or not: it runs without ours."""

import numpy as np
import pytest
import torch

from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.inception_score import inception_score
from scalegan.metrics.kernel import kernel_distance
from scalegan.metrics.statistics import moments


class Pixels(torch.nn.Module):
    """Features that need no weights: sums over blocks of an image."""

    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.double(), 4).flatten(1) / 16


def images(count: int, seed: int, low: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(low, 256, (count, 3, 8, 8), generator=rng).to(torch.uint8)


@pytest.mark.filterwarnings("ignore")
def test_torchmetrics_agrees() -> None:
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    real, fake, network = images(300, 0, 0), images(200, 1, 40), Pixels()
    a, b = network(real), network(fake)
    fid = FrechetInceptionDistance(feature=network, input_img_size=(3, 8, 8))
    # With every row in its one subset there is no randomness left.
    kid = KernelInceptionDistance(feature=network, subsets=1, subset_size=200)
    for metric, sides in ((fid, (real, fake)), (kid, (real[:200], fake))):
        metric.set_dtype(torch.float64)
        metric.update(sides[0], real=True)
        metric.update(sides[1], real=False)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(fid.compute().item(), rel=1e-6)
    ours = kernel_distance(a[:200], b, subsets=1, size=200).mean
    assert ours == pytest.approx(kid.compute()[0].item(), rel=1e-6)
    score = InceptionScore(feature=network, splits=1)
    score.update(fake)
    assert inception_score(b, splits=1).mean == pytest.approx(score.compute()[0].item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_pytorch_fid_agrees() -> None:
    score = pytest.importorskip("pytorch_fid.fid_score", reason="pytorch-fid does not import here")
    a, b = (Pixels()(images(250, seed, 20 * seed)).numpy() for seed in (0, 1))
    theirs = score.calculate_frechet_distance(
        a.mean(axis=0), np.cov(a.T), b.mean(axis=0), np.cov(b.T)
    )
    ours = frechet_distance(*(moments(torch.from_numpy(rows)) for rows in (a, b)))
    assert ours == pytest.approx(theirs, rel=1e-9)
