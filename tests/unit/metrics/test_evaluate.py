import pytest
import torch

from scalegan.interfaces import Images
from scalegan.metrics.evaluate import distances


def images(count: int, low: int, high: int, seed: int = 0) -> Images:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, 4, 4), generator=rng).to(torch.uint8)


def features(pictures: Images) -> torch.Tensor:
    return pictures.float().mean(dim=(2, 3))


def test_the_same_images_are_at_no_distance() -> None:
    real = images(100, 0, 256)
    distance, floor = distances(real, real, features, seed=0)
    assert distance == pytest.approx(0, abs=1e-6)
    assert floor > 0.1, "two halves differ by chance"


def test_other_images_are_further_away_than_two_halves() -> None:
    distance, floor = distances(images(200, 0, 256), images(200, 100, 256, 1), features, seed=0)
    assert distance > 10 * floor


def test_the_floor_depends_on_the_seed_alone() -> None:
    real, fake = images(100, 0, 256), images(60, 0, 256, 1)
    assert distances(real, fake, features, 1) == distances(real, fake, features, 1)
    assert distances(real, fake, features, 1)[1] != distances(real, fake, features, 2)[1]


def test_many_images_are_taken_in_parts() -> None:
    sizes = []

    def counted(pictures: Images) -> torch.Tensor:
        sizes.append(len(pictures))
        return features(pictures)

    distances(images(600, 0, 256), images(513, 0, 256), counted, seed=0)
    assert sizes == [512, 88, 512, 1]
