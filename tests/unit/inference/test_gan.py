from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from scalegan.autoencoders.linear import divisors, fit_linear, save_linear
from scalegan.autoencoders.tables import make_autoencoder
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import ConfigError
from scalegan.inference.gan import GAN, load
from tests.unit.inference.test_snapshot import folder, rewrite

__all__ = ["folder"]  # a fixture


@pytest.fixture
def gan(folder: Path) -> GAN:
    return load(folder)


def test_classes_by_name_index_and_digits(gan: GAN) -> None:
    assert gan.indices(None) == [0, 1, 2]
    assert gan.indices(["bird", 0, "1", "cat"]) == [2, 0, 1, 0]


def test_a_name_of_digits_goes_before_the_index(folder: Path) -> None:
    rewrite(folder, class_names=["2", "1", "0"])
    assert load(folder).indices(["2", 2]) == [0, 2]


@pytest.mark.parametrize("label", ["fish", 3, -1, "3", "-1", ""])
def test_unknown_classes_are_refused(gan: GAN, label: str | int) -> None:
    with pytest.raises(ConfigError) as caught:
        gan.indices([0, label])
    expected = f"there is no class `{label}`; the model knows 3: cat, dog, bird"
    assert str(caught.value) == expected


def test_no_classes_are_refused(gan: GAN) -> None:
    with pytest.raises(ConfigError, match=r"^the list of classes is empty$"):
        gan.sample(1, classes=[])


def test_sample_counts_seeds_and_classes_on(gan: GAN) -> None:
    images = gan.sample(5, seed=2)
    assert images.shape == (5, 3, 8, 8) and images.dtype == torch.uint8
    assert torch.equal(gan.sample(5, seed=2), images)
    assert torch.equal(gan.sample(1, seed=4), images[2:3])  # seed 4 has class 1 on either way
    assert gan.labels(range(2, 7)).tolist() == [2, 0, 1, 2, 0]
    assert torch.equal(gan.sample(1, classes=["dog"], seed=4), images[2:3])


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_impossible_counts_and_seeds_are_refused(gan: GAN, count: int, seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"^cannot draw {count} images from seed {seed}; "):
        gan.sample(count, seed=seed)


def test_truncation_and_guidance_reach_the_images(gan: GAN) -> None:
    plain = gan.sample(4, classes=["cat"])
    typical = gan.sample(4, classes=["cat"], truncation=0.0)
    assert torch.equal(typical, typical[:1].expand_as(typical))
    assert not torch.equal(plain, typical)
    assert not torch.equal(gan.sample(4, classes=["cat"], guidance=5.0), plain)


def test_the_last_level_is_the_sample(gan: GAN) -> None:
    levels = gan.levels(4, ["cat", "bird"], seed=1)
    assert levels.shape == (4, 4, 3, 8, 8)
    assert torch.equal(levels[-1], gan.sample(4, ["cat", "bird"], seed=1))
    w = gan.style(4, ["cat", "bird"], seed=1)
    assert torch.equal(gan.paint(w, level=1), levels[1])
    assert torch.equal(gan.paint(w, level=-4), levels[0])


@pytest.mark.parametrize("level", [4, -5])
def test_levels_that_are_not_there_are_refused(gan: GAN, level: int) -> None:
    with pytest.raises(ConfigError, match=rf"^there is no level {level}; the generator has 4$"):
        gan.paint(gan.style(1), level)


@pytest.mark.parametrize("steps", [2, 5])
def test_a_walk_has_both_its_ends(gan: GAN, steps: int) -> None:
    walk = gan.interpolate((3, 8), ("cat", 2), steps)
    assert len(walk) == steps
    assert torch.equal(walk[:1], gan.sample(1, ["cat"], seed=3))
    assert torch.equal(walk[-1:], gan.sample(1, ["bird"], seed=8))


def test_a_walk_of_one_image_is_refused(gan: GAN) -> None:
    with pytest.raises(ConfigError, match=r"^a walk of 1 images has no two ends"):
        gan.interpolate((0, 1), (0, 0), steps=1)


def test_generators_of_the_package_are_loaded_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scalegan.inference.snapshot.PRETRAINED", folder.parent)
    found = load(f"pretrained:{folder.name}")
    assert torch.equal(found.sample(2), load(folder).sample(2))
    with pytest.raises(ConfigError, match=f"expected one of: {folder.name}"):
        load("pretrained:nothing")
    monkeypatch.setattr("scalegan.inference.snapshot.PRETRAINED", folder / "empty")
    with pytest.raises(ConfigError, match="none comes with this version"):
        load("pretrained:digits")


def test_a_snapshot_may_bring_its_autoencoder(folder: Path) -> None:
    """It goes before the path of the card, which another machine does not have."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 8, 8), generator=rng).to(torch.uint8)
    network, deviations = fit_linear([images], 1, 2, 1)
    about = AutoencoderConfig("linear", "/nowhere", "mean")
    (folder / "autoencoder").mkdir()
    save_linear(folder / "autoencoder", network, divisors(deviations, 0.5), {})
    identity = make_autoencoder(replace(about, path=str(folder / "autoencoder")), 1, 16).identity()
    rewrite(folder, autoencoder=asdict(about), identity=identity)
    assert load(folder).sample(1).shape == (1, 3, 16, 16)
