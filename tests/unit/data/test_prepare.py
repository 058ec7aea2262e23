"""Preparing: the same bytes by however many workers; every refusal in a sentence."""

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scalegan.data import prepare as module
from scalegan.data import sources
from scalegan.data.manifest import read_manifest
from scalegan.data.prepare import prepare
from scalegan.data.shards import Shards, read_keys
from scalegan.errors import DataError
from scalegan.runtime.files import locked
from tests.support.hostile import encode, noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with 4 x 11 images of several sizes, two of them damaged."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cow", "dog"):
        (root / name).mkdir()
        for i in range(11):
            height, width = rng.integers(16, 40, 2)
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    (root / "ant" / "03.png").write_bytes(b"")
    whole = (root / "cow" / "05.png").read_bytes()
    (root / "cow" / "05.png").write_bytes(whole[: len(whole) // 2])
    return root


def digests(out: Path) -> dict[str, str]:
    """Every file of a preparation by its SHA-256."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def run(source: Path | str, out: Path, **options: Any) -> list[str]:
    """Prepare and return what was said."""
    said: list[str] = []
    options = {"size": 16, "shard_rows": 20, "workers": 1} | options
    prepare(str(source), out, options.pop("size"), tell=said.append, **options)
    return said


def test_images_become_rows(folder: Path, tmp_path: Path) -> None:
    said = run(folder, tmp_path / "out", keep_images=True)
    shards = Shards(tmp_path / "out", with_images=True)
    shards.verify()
    assert len(shards) == 42
    assert [len(stored.rows) for stored in shards.stored] == [19, 19, 4]  # 20 but the bad
    batch = shards.read(torch.arange(42))
    assert torch.equal(batch.stored, batch.images)
    assert batch.labels.bincount().tolist() == [10, 11, 10, 11]
    assert shards.manifest["class_names"] == ["ant", "bee", "cow", "dog"]
    assert shards.manifest["autoencoder"]["identity"]["kind"] == "identity"
    assert said[-1] == f"42 rows in 3 shards in `{tmp_path / 'out'}`"
    assert any("44 images, 1 row(s) of 3x16x16 uint8 per image" in line for line in said)


def test_bad_images_are_listed_and_end_nothing(folder: Path, tmp_path: Path) -> None:
    said = run(folder, tmp_path / "out")
    lines = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    found = {json.loads(line)["key"]: json.loads(line)["reason"] for line in lines}
    assert set(found) == {"ant/03.png", "cow/05.png"}
    assert found["ant/03.png"] == "the file is empty"
    assert any(line.startswith("notice: 2 images or labels were left out") for line in said)
    keys = [key for path in sorted((tmp_path / "out").glob("shard-*")) for key in read_keys(path)]
    assert len(keys) == len(set(keys)) == 42 and not set(found) & set(keys)


def test_strict_ends_at_the_first_bad_image(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(folder, tmp_path / "out", strict=True)
    assert str(caught.value) == "image `ant/03.png`: the file is empty"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


def test_the_number_of_workers_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    for count in (1, 3):
        run(folder, tmp_path / str(count), workers=count, mirror=True, keep_images=True)
    assert digests(tmp_path / "1") == digests(tmp_path / "3")


def test_a_second_call_finds_all_done(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path)
    before = digests(tmp_path)
    assert run(folder, tmp_path) == [f"`{tmp_path}` is complete: 42 rows in 3 shards"]
    assert digests(tmp_path) == before


@pytest.mark.parametrize("gone", [["shard-00000"], ["shard-00001"], ["shard-00002"],
                                  ["shard-00000", "shard-00002"]])  # fmt: skip
def test_damaged_shards_are_made_again(folder: Path, tmp_path: Path, gone: list[str]) -> None:
    run(folder, tmp_path)
    before = digests(tmp_path)
    for name in gone:
        path = tmp_path / name / "stored.npy"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    said = run(folder, tmp_path)
    damaged = "is damaged and made again: `stored.npy` does not match its digest"
    assert said[0] == f"notice: `{tmp_path / gone[0]}` {damaged}"
    assert f"going on: {3 - len(gone)} complete shards are kept" in said
    assert digests(tmp_path) == before


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"size": 8}, "its `size` is 16, not 8"),
    "mirror": ({"mirror": True}, "its `mirror` is False, not True"),
    "images": ({"keep_images": True}, "its `keep_images` is False, not True"),
    "rows": ({"shard_rows": 10}, "its `shard_images` is 20, not 10"),
    "upscaling": ({"allow_upscaling": True}, "its `allow_upscaling` is False, not True"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_preparation_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path)
    before = digests(tmp_path)
    options, what = OTHERS[name]
    with pytest.raises(DataError) as caught:
        run(folder, tmp_path, **options)
    assert str(caught.value) == f"`{tmp_path}` holds another preparation: {what}"
    assert digests(tmp_path) == before


def test_another_source_is_refused(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path)
    with pytest.raises(DataError, match=r"holds another preparation: its `source` is '"):
        run("digits", tmp_path, size=8)


def test_a_changed_source_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "data.npz"
    pixels = np.zeros((30, 8, 8), np.uint8)
    np.savez(archive, pixels, np.arange(30) % 3)
    out = tmp_path / "out"
    run(f"npz:{archive}", out, size=8, shard_rows=10)
    np.savez(archive, pixels, np.arange(30)[::-1] % 3)
    (out / "shard-00001" / "keys.txt").unlink()
    with pytest.raises(DataError, match=r"^the source has changed since `.*shard-00000` was made"):
        run(f"npz:{archive}", out, size=8, shard_rows=10)


def test_a_folder_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="is not empty and holds no preparation"):
        run(folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def hold(path: str, entered: Any, leave: Any) -> None:
    with locked(Path(path), "preparing"):
        entered.set()
        leave.wait(30)


def test_two_at_a_time_are_refused(folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), entered, leave))
    other.start()
    assert entered.wait(30)
    with pytest.raises(DataError, match=r"^another process is preparing `"):
        run(folder, tmp_path)
    leave.set()
    other.join()
    run(folder, tmp_path)


def test_gray_images_have_one_channel_and_colored_ones_among_them_three(tmp_path: Path) -> None:
    gray = np.arange(30, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    np.savez(tmp_path / "gray.npz", gray, np.arange(30) % 2)
    run(f"npz:{tmp_path / 'gray.npz'}", tmp_path / "gray", size=0)
    colored = gray[..., None].repeat(3, -1)
    colored[29, 0, 0, 0] += 1
    np.savez(tmp_path / "color.npz", colored, np.arange(30) % 2)
    run(f"npz:{tmp_path / 'color.npz'}", tmp_path / "color", size=0)
    assert Shards(tmp_path / "gray").shape == (1, 8, 8)
    assert Shards(tmp_path / "color").shape == (3, 8, 8)


@pytest.mark.parametrize("kind", ["gray", "color"])
def test_the_source_is_opened_once_and_gray_files_are_decoded_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    (tmp_path / "images" / "ant").mkdir(parents=True)
    for i, image in enumerate(pixels[..., 0] if kind == "gray" else pixels):
        Image.fromarray(image).save(tmp_path / "images" / "ant" / f"{i}.png")
    calls: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        return lambda *arguments: calls.update([name]) or function(*arguments)

    monkeypatch.setattr(module, "open_source", counted("open", module.open_source))
    monkeypatch.setattr(sources, "decode", counted("decode", sources.decode))
    run(tmp_path / "images", tmp_path / "out", size=8)
    assert calls == {"open": 1, "decode": 40 + (kind == "color")}
    assert Shards(tmp_path / "out").shape == ((1, 8, 8) if kind == "gray" else (3, 8, 8))


def test_one_class_and_empty_ones_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", np.zeros((9, 8, 8), np.uint8), np.zeros(9, int))
    said = run(f"npz:{tmp_path / 'one.npz'}", tmp_path / "one", size=0)
    assert any(line.startswith("notice: there is only one class") for line in said)
    np.savez(tmp_path / "gap.npz", np.zeros((9, 8, 8), np.uint8), np.full(9, 2))
    said = run(f"npz:{tmp_path / 'gap.npz'}", tmp_path / "gap", size=0)
    assert any("2 of 3 classes have no images: `0`, `1`" in line for line in said)


def test_a_source_without_a_usable_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "ant").mkdir(parents=True)
    (tmp_path / "images" / "ant" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="holds no image that can be used"):
        run(tmp_path / "images", tmp_path / "out")


def test_a_disk_that_is_too_small_is_refused_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"^the shards need about 0\.0 GiB more, but only 0\.0 GiB"):
        run(folder, tmp_path)


def test_a_class_of_damaged_images_alone_leaves_an_empty_shard(tmp_path: Path) -> None:
    for name, count in (("ant", 10), ("bee", 10), ("cow", 5)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            path = tmp_path / "images" / name / f"{i}.png"
            Image.new("RGB", (16, 16), (i, 0, 9)).save(path)
            if name == "bee":
                path.write_bytes(b"\x89PNG")
    out = tmp_path / "out"
    run(tmp_path / "images", out, shard_rows=10)
    shards = Shards(out)
    assert [len(stored.rows) for stored in shards.stored] == [10, 0, 5]
    assert shards.read(torch.tensor([9, 10])).labels.tolist() == [0, 2]


def test_a_path_that_is_not_utf8_is_prepared(folder: Path, tmp_path: Path) -> None:
    where = tmp_path / os.fsdecode(b"caf\xe9")
    where.symlink_to(folder)
    said = run(where, tmp_path / "out")
    assert read_manifest(tmp_path / "out")["source"].endswith("caf\\udce9")
    assert run(where, tmp_path / "out")[-1].endswith("rows in 3 shards")
    assert all(line.encode("utf-8") for line in said)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(encode(noise(0, 16, 16)))
    (tmp_path / "flat").rename(tmp_path / os.fsdecode(b"\xe9"))
    assert all(line.encode() for line in run(tmp_path / os.fsdecode(b"\xe9"), tmp_path / "flat"))
