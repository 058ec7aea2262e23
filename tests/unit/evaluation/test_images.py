"""Runs, folders, archives and shards are all streams of the same images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import scalegan
from scalegan.data.prepare import prepare
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.images import (
    ImageOptions,
    ImageStream,
    open_stream,
    sampled_labels,
    translate,
)
from scalegan.inference.sampling import labels_for
from scalegan.inference.snapshot import Card, save_snapshot
from scalegan.runtime.world import World
from scalegan.train.build import build_networks
from tests.support import tiny

ALONE = World(0, 1, torch.device("cpu"))
NAMES = ["cat", "dog", "owl"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same twelve images as a folder, an archive and shards; and a snapshot."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        path = folder / "images" / NAMES[i // 4] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    np.savez(folder / "images.npz", pixels, np.arange(12) // 4)
    for keep in (True, False):
        out = folder / f"shards-{keep}"
        prepare(str(folder / "images"), out, keep_images=keep, mirror=keep, workers=1,
                tell=lambda _: None)  # fmt: skip
    config = tiny.config()
    generator, discriminator = build_networks(config, (1, 8, 8), 3)
    card = Card("tiny", config.model, config.autoencoder, (1, 8, 8), NAMES)
    save_snapshot(folder / "snapshot", card, generator, discriminator)
    return folder


def read(stream: ImageStream) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    parts = list(stream.batches)
    images, labels, positions = (torch.cat(part) for part in zip(*parts, strict=True))
    order = positions.argsort()
    return images[order], labels[order], positions[order]


@pytest.mark.parametrize("name", ["images", "images.npz", "shards-True", "shards-False"])
def test_all_hold_the_same_images(place: Path, name: str) -> None:
    stream = open_stream(str(place / name), ImageOptions(batch_size=5), ALONE)
    assert stream.count == 12 and stream.about["requested"] == 12
    images, labels, _ = read(stream)
    with np.load(place / "images.npz") as archive:
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), archive["arr_0"])
        assert np.array_equal(labels.numpy(), archive["arr_1"])
    expected = ["0", "1", "2"] if name.endswith("npz") else NAMES
    assert stream.class_names == expected


@pytest.mark.parametrize("name", ["images", "images.npz", "shards-True", "snapshot"])
def test_ranks_share_without_overlap(place: Path, name: str) -> None:
    options = ImageOptions(num=9, batch_size=2)
    whole = read(open_stream(str(place / name), options, ALONE))
    parts = [
        read(open_stream(str(place / name), options, World(rank, 2, torch.device("cpu"))))
        for rank in range(2)
    ]
    joined = [torch.cat(pair) for pair in zip(*parts, strict=True)]
    order = joined[2].argsort()
    assert all(torch.equal(a[order], b) for a, b in zip(joined, whole, strict=True))
    assert len(whole[0]) == 9


def test_a_choice_is_random_seeded_and_not_too_large(place: Path) -> None:
    where = str(place / "images.npz")
    chosen = [
        read(open_stream(where, ImageOptions(num=4, seed=s), ALONE))[2].tolist() for s in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[0] != [0, 1, 2, 3], "the first images would be of one class"
    with pytest.raises(DataError, match="12 images but 13"):
        open_stream(where, ImageOptions(num=13), ALONE)


def test_a_generator_is_drawn_by_seed(place: Path) -> None:
    path = place / "snapshot"
    options = ImageOptions(num=7, seed=5, truncation=0.5, batch_size=3)
    stream = open_stream(str(path), options, ALONE)
    images, labels, _ = read(stream)
    gan = scalegan.load(path)
    assert torch.equal(images, gan.sample(7, truncation=0.5, seed=5))
    assert torch.equal(labels, labels_for(range(5, 12), range(3)))
    assert stream.about["seeds"] == [5, 11] and stream.about["truncation"] == 0.5
    assert len(stream.about["weights"]) == 64


def test_class_policies() -> None:
    like = torch.tensor([0] * 30 + [2] * 10)
    balanced, uniform, followed = (
        sampled_labels(3000, 3, ImageOptions(classes=name), like).bincount(minlength=3)
        for name in ("balanced", "uniform", "reference")
    )
    assert balanced.tolist() == [1000] * 3
    assert (uniform > 900).all() and uniform.tolist() != balanced.tolist()
    assert followed[1] == 0 and 2150 < followed[0] < 2350
    with pytest.raises(ConfigError, match="reference with classes"):
        sampled_labels(3, 3, ImageOptions(classes="reference"), None)
    late = sampled_labels(10, 3, ImageOptions(classes="uniform", seed=5), None)
    assert torch.equal(late[:5], sampled_labels(10, 3, ImageOptions(classes="uniform"), None)[5:])


def test_images_are_cropped_alike(place: Path) -> None:
    found = [read(open_stream(str(place / name), ImageOptions(size=4), ALONE))[0]
             for name in ("images", "images.npz")]  # fmt: skip
    assert torch.equal(*found) and found[0].shape[-1] == 4
    with pytest.raises(ConfigError, match="hold images of 8"):
        open_stream(str(place / "shards-True"), ImageOptions(size=4), ALONE)


def test_classes_are_matched_by_name() -> None:
    labels = torch.tensor([0, 1, 1])
    assert translate(["b", "a"], ["a", "b"], "x")(labels).tolist() == [1, 0, 0]
    assert translate(["0", "1"], ["a", "b", "c"], "x")(labels) is labels
    with pytest.raises(DataError, match="class `z` of the samples is none of x"):
        translate(["a", "z"], ["a", "b"], "x")
