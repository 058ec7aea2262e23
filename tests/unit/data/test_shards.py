"""Shards: what is written is read, and every kind of damage has its sentence."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scalegan.data.images import encode_png
from scalegan.data.shards import (
    AGAIN,
    EncodedImage,
    Shards,
    read_keys,
    read_left_out,
    refuse_changed_source,
    shard_name,
    write_shard,
)
from scalegan.data.sources import SourceImage
from scalegan.errors import DataError
from scalegan.runtime.files import read_json, write_json

SIDE, COUNTS = 4, (5, 3, 0, 2)  # images per shard; one shard has lost all of its own
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (sum(COUNTS), 3, SIDE, SIDE), dtype=np.uint8)


def write(out: Path, mirror: bool = False, keep_images: bool = False) -> Path:
    """Shards whose stored rows are the inputs themselves."""
    about, number = [], 0
    for shard, count in enumerate(COUNTS):
        path = out / shard_name(shard)
        images = []
        for _ in range(count):
            tile = IMAGES[number]
            rows = np.stack([tile, tile[..., ::-1]][: 1 + mirror])
            png = encode_png(tile) if keep_images else b""
            images.append(EncodedImage(f"key-{number}", number % 3, rows, png))
            number += 1
        images.append(EncodedImage(f"bad-{shard}", 1, reason="is bad"))
        write_shard(path, (3, SIDE, SIDE), "uint8", keep_images, images)
        digests = read_json(path / "manifest.json")
        about.append({"name": path.name, "rows": count * (1 + mirror), "digests": digests})
    manifest = {
        "format": 1, "complete": True, "mirror": mirror, "keep_images": keep_images, "side": SIDE,
        "row": {"shape": [3, SIDE, SIDE], "dtype": "uint8"}, "class_names": ["a", "b", "c"],
        "shards": about,
    }  # fmt: skip
    write_json(out / "manifest.json", manifest)
    return out


def test_rows_come_back_in_any_order_across_shards(tmp_path: Path) -> None:
    shards = Shards(write(tmp_path))
    indices = torch.tensor([9, 0, 4, 5, 0, 7, 8])
    batch = shards.read(indices)
    assert len(shards) == 10
    assert torch.equal(batch.stored, torch.from_numpy(IMAGES)[indices])
    assert batch.labels.tolist() == [0, 0, 1, 2, 0, 1, 2]
    assert batch.labels.dtype == torch.int64 and batch.images is None
    assert shards.read(indices[:0]).stored.shape == (0, 3, SIDE, SIDE)


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    shards = Shards(write(tmp_path))
    shards.read(torch.tensor([0])).stored.zero_()
    assert shards.read(torch.tensor([0])).stored.any()


def test_a_mirror_image_is_a_row_and_shares_the_bytes_of_its_image(tmp_path: Path) -> None:
    shards = Shards(write(tmp_path, mirror=True, keep_images=True), with_images=True)
    batch = shards.read(torch.tensor([2, 3, 11]))
    image = torch.from_numpy(IMAGES)
    expected = torch.stack([image[1], image[1].flip(-1), image[5].flip(-1)])
    assert len(shards) == 20
    assert torch.equal(batch.stored, expected)
    assert batch.images is not None and torch.equal(batch.images, expected)
    assert read_keys(tmp_path / "shard-00000")[2:4] == ["key-1", "key-1#mirrored"]


def test_images_are_decoded_only_where_they_are_asked_for(tmp_path: Path) -> None:
    out = write(tmp_path, keep_images=True)
    (out / "shard-00000" / "images.bin").unlink()
    assert Shards(out).read(torch.tensor([0])).images is None


def test_the_header_is_what_numpy_writes(tmp_path: Path) -> None:
    stored = np.load(write(tmp_path) / "shard-00001" / "stored.npy")
    assert np.array_equal(stored, IMAGES[5:8])


def test_left_out_images_are_listed_in_their_shard(tmp_path: Path) -> None:
    expected = [{"key": "bad-1", "label": 1, "reason": "is bad"}]
    assert read_left_out(write(tmp_path) / "shard-00001") == expected


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def images() -> Iterator[EncodedImage]:
        yield EncodedImage("a", 0, np.zeros((1, 1), np.uint8))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_shard(tmp_path / "shard-00000", (1,), "uint8", True, images())
    assert list(tmp_path.iterdir()) == []


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path, count: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def change(out: Path, **values: Any) -> None:
    write_json(out / "manifest.json", read_json(out / "manifest.json") | values)


def recount(out: Path) -> None:
    manifest = read_json(out / "manifest.json")
    manifest["shards"][0]["rows"] = 4
    write_json(out / "manifest.json", manifest)


FIRST = "shard-00000"
DEFECTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (
        lambda out: (out / "manifest.json").unlink(),
        "`OUT` holds no shards: there is no `manifest.json`",
    ),
    "not JSON": (
        lambda out: cut(out / "manifest.json", 5),
        "`OUT/manifest.json` cannot be read: ",
    ),
    "other format": (lambda out: change(out, format=9), "`OUT` has format 9; this version reads 1"),
    "stopped": (
        lambda out: change(out, complete=False),
        "`OUT` is not complete: preparation was stopped",
    ),
    "file missing": (
        lambda out: (out / FIRST / "labels.npy").unlink(),
        "shard `shard-00000` in `OUT` is not usable: `labels.npy` is missing",
    ),
    "rows cut": (
        lambda out: cut(out / FIRST / "stored.npy"),
        "shard `shard-00000` in `OUT` is not usable: a file is cut short or damaged (",
    ),
    "no header": (
        lambda out: flip(out / FIRST / "stored.npy", 0),
        "shard `shard-00000` in `OUT` is not usable: a file is cut short or damaged (",
    ),
    "labels cut": (
        lambda out: cut(out / FIRST / "labels.npy"),
        "shard `shard-00000` in `OUT` is not usable: a file is cut short or damaged (",
    ),
    "rows differ": (recount, "shard `shard-00000` in `OUT` holds 5 rows but the manifest says 4"),
    "shape differs": (
        lambda out: change(out, row={"shape": [3, 2, 8], "dtype": "uint8"}),
        "shard `shard-00000` in `OUT` is not usable: rows are uint8 (3, 4, 4); expected uint8 "
        "(3, 2, 8)",
    ),
    "labels differ": (
        lambda out: np.save(out / FIRST / "labels.npy", np.zeros(3, np.int64)),
        "shard `shard-00000` in `OUT` is not usable: there are 3 labels for 5 rows",
    ),
    "label too large": (
        lambda out: np.save(out / FIRST / "labels.npy", np.full(5, 3)),
        "shard `shard-00000` in `OUT` is not usable: labels are not all within 0..2",
    ),
    "images cut": (
        lambda out: cut(out / FIRST / "images.bin"),
        "shard `shard-00000` in `OUT` is not usable: `images.bin` does not end where "
        "`offsets.npy` says",
    ),
    "bit flipped in a row": (
        lambda out: flip(out / FIRST / "stored.npy", -1),
        "`stored.npy` of shard `shard-00000` in `OUT` does not match its digest",
    ),
    "bit flipped in a label": (
        lambda out: flip(out / FIRST / "labels.npy", -8),
        "`labels.npy` of shard `shard-00000` in `OUT` does not match its digest",
    ),
    "bit flipped in an image": (
        lambda out: flip(out / "shard-00003" / "images.bin", -20),
        "`images.bin` of shard `shard-00003` in `OUT` does not match its digest",
    ),
    "bit flipped in a key": (
        lambda out: flip(out / FIRST / "keys.txt", 0),
        "`keys.txt` of shard `shard-00000` in `OUT` does not match its digest",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_has_its_sentence(name: str, tmp_path: Path) -> None:
    out = write(tmp_path / "out", keep_images=True)
    Shards(out, with_images=True).verify()
    damage, message = DEFECTS[name]
    damage(out)
    with pytest.raises(DataError) as caught:
        Shards(out, with_images=True).verify()
    assert str(caught.value).startswith(message.replace("OUT", str(out)))
    assert "\n" not in str(caught.value)


def test_shards_without_images_are_refused_where_a_teacher_looks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no images, which a teacher") as caught:
        Shards(write(tmp_path), with_images=True)
    assert caught.value.hint == "prepare with --keep-images"


def test_an_image_that_breaks_while_training_is_named(tmp_path: Path) -> None:
    out = write(tmp_path, keep_images=True)
    flip(out / FIRST / "images.bin", 3)
    with pytest.raises(DataError, match=r"^the image of row 0 of shard `shard-00000`") as caught:
        Shards(out, with_images=True).read(torch.tensor([4, 0]))
    assert caught.value.hint == AGAIN


def test_ranks_share_the_verifying(tmp_path: Path) -> None:
    out = write(tmp_path)
    flip(out / "shard-00001" / "stored.npy", -1)
    shards = Shards(out)
    shards.verify(0, 2)
    with pytest.raises(DataError, match="shard-00001"):
        shards.verify(1, 2)


def test_the_fingerprint_is_that_of_the_rows(tmp_path: Path) -> None:
    one, same = Shards(write(tmp_path / "a")), Shards(write(tmp_path / "b"))
    other = Shards(write(tmp_path / "c", mirror=True))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def items(*keys: str) -> list[SourceImage]:
    """The first shard's images, with the one that was left out among them."""
    labels = {"bad-0": 1} | {f"key-{i}": i % 3 for i in range(10)}
    return [SourceImage(key, b"", labels[key]) for key in keys]


KEYS = ["key-0", "key-1", "bad-0", "key-2", "key-3", "key-4"]


def test_a_shard_is_compared_with_its_source(tmp_path: Path) -> None:
    shard = write(tmp_path) / FIRST
    assert refuse_changed_source(shard, items(*KEYS), mirror=False) == 6


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (items(*KEYS[:-1]), "image `key-4` is gone"),
        (items(*KEYS, "key-5"), "image `key-5` of class 2 was not there"),
        (items("key-1", "key-0", *KEYS[2:]), "image `key-1` of class 1 was not there"),
        (
            [SourceImage("key-0", b"", 2), *items(*KEYS[1:])],
            "image `key-0` of class 2 was not there",
        ),
    ],
)
def test_a_changed_source_is_refused(found: list[SourceImage], what: str, tmp_path: Path) -> None:
    shard = write(tmp_path) / FIRST
    with pytest.raises(DataError) as caught:
        refuse_changed_source(shard, found, mirror=False)
    assert str(caught.value) == f"the source has changed since `{shard}` was made: {what}"


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    assert json.loads((write(tmp_path) / "manifest.json").read_text())["format"] == 1
