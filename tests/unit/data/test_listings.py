import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scalegan.data import images
from scalegan.data.files import webdataset, zipped
from scalegan.errors import DataError
from tests.support.hostile import encode, noise
from tests.unit.data.test_files import read, reasons

PNG, OTHER = encode(noise(0, 4, 4)), encode(noise(1, 4, 4))


def make_zip(path: Path, members: dict[str, bytes], labels: Any = None) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if labels is not None:
            archive.writestr("dataset.json", json.dumps(labels))
    return str(path)


def make_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def test_stylegan_zip(tmp_path: Path) -> None:
    labels = {"labels": [["00/a.png", 2], ["00/b.png", 0], ["00/gone.png", 1], ["00/d.png", -3]]}
    members = {f"00/{name}.png": PNG for name in "badc"} | {"__MACOSX/00/a.png": b"", "x.txt": b""}
    source = zipped(make_zip(tmp_path / "x.zip", members, labels))
    assert list(read(source).items()) == [("00/a.png", "2"), ("00/b.png", "0")]
    assert source.class_names == ["0", "1", "2"]
    assert reasons(source) == {
        "00/gone.png": "has a label but is not in the archive",
        "00/c.png": "has no label in `dataset.json`",
        "00/d.png": "label -3 is outside 0..2",
    }


def test_zip_without_labels(tmp_path: Path) -> None:
    for labels in (None, {"labels": None}):
        source = zipped(make_zip(tmp_path / "x.zip", {"a.png": PNG}, labels))
        assert read(source) == {"a.png": "all"}
        assert source.notes[0].endswith("has no labels: all images are one class")


@pytest.mark.parametrize("around", ["", "data/"])
def test_zip_of_class_folders(around: str, tmp_path: Path) -> None:
    members = {f"{around}{name}": PNG for name in ("10/a.png", "9/b.png", "9/deep/c.png")}
    source = zipped(make_zip(tmp_path / "x.zip", members))
    assert source.class_names == ["10", "9"]
    assert list(read(source).values()) == ["10", "9", "9"]


def unmarked(path: Path, members: dict[str, bytes]) -> str:
    """A zip whose names are not marked as UTF-8, as macOS writes it."""
    stand_ins = {}
    for name, data in members.items():
        raw = name.encode("utf-8", "surrogateescape")
        stand_ins["ABC"[len(stand_ins)] * len(raw)] = (raw, data)
    with zipfile.ZipFile(path, "w") as archive:
        for name, (_, data) in stand_ins.items():
            archive.writestr(name, data)
    content = path.read_bytes()
    for name, (raw, _) in stand_ins.items():
        content = content.replace(name.encode(), raw)
    path.write_bytes(content)
    return str(path)


def test_names_in_zips_are_utf8_if_they_can_be(tmp_path: Path) -> None:
    members = {"caf\u00e9/00000001.png": PNG, "th\u00e9/00000002.png": OTHER,
               "__MACOSX/caf\u00e9/._1.png": b"\0\5"}  # fmt: skip
    source = zipped(unmarked(tmp_path / "x.zip", members))
    assert list(read(source).values()) == ["caf\u00e9", "th\u00e9"]
    assert [one.key for one in source.passed_over] == ["__MACOSX"]
    path = unmarked(tmp_path / "y.zip", {"caf\udce9/00000001.png": PNG})
    assert zipped(path).class_names == ["caf\u0398"]  # the format's own code page
    assert zipped(f"{path}?encoding=cp1252").class_names == ["caf\u00e9"]


def test_backslashes_in_a_zip_without_slashes_are_slashes(tmp_path: Path) -> None:
    source = zipped(make_zip(tmp_path / "x.zip", {"cat\\a.png": PNG, "dog\\b.png": OTHER}))
    assert read(source) == {"cat/a.png": "cat", "dog/b.png": "dog"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_members_are_listed_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (
            ("c/a.png", PNG),
            ("c/b.png", OTHER),
            ("c/b.png", PNG),
            ("c/z.png", PNG),
        ):
            archive.writestr(name, data)
    data = bytearray(path.read_bytes())
    data[data.index(PNG) + 40] ^= 1
    path.write_bytes(data)
    source = zipped(str(path))
    assert list(read(source)) == ["c/b.png", "c/z.png"]
    assert reasons(source) == {
        "c/a.png": "cannot be read: Bad CRC-32 for file 'c/a.png'",
        "c/b.png": "the key is used twice; the first one is kept",
    }


def test_a_member_that_unfolds_too_far_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    source = zipped(make_zip(tmp_path / "x.zip", {"c/a.png": PNG, "c/b.png": b"\0" * 1001}))
    assert list(read(source)) == ["c/a.png"]
    assert reasons(source) == {"c/b.png": "has 1,001 bytes; at most 1,000 are read"}


def test_unreadable_zips(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        zipped(str(tmp_path / "no.zip"))
    (tmp_path / "x.zip").write_bytes(b"PK\3\4 rubbish")
    with pytest.raises(DataError, match="is not a readable zip archive"):
        zipped(str(tmp_path / "x.zip"))


def test_webdataset(tmp_path: Path) -> None:
    make_tar(tmp_path / "b-000.tar", [
        ("./001.cls", b"1\n"), ("./001.jpg", PNG), ("dir/002.json", b'{"label": 0}'),
        ("dir/002.seg.png", PNG), ("003.png", PNG), ("004.txt", b"no image"), ("004.cls", b"0"),
        ("005.png", PNG), ("005.cls", b"x"), ("006.png", PNG), ("006.json", b"{"),
    ])  # fmt: skip
    make_tar(tmp_path / "a-000.tar.gz", [("001.jpg", OTHER), ("001.cls", b"2")], "w:gz")
    source = webdataset(str(tmp_path))
    assert source.class_names == ["0", "1", "2"] and source.num_images == 6
    assert list(read(source).items()) == [
        ("a-000.tar/001", "2"), ("b-000/001", "1"), ("b-000/dir/002", "0")
    ]  # fmt: skip
    assert reasons(source) == {
        "b-000/004.cls": "is the label of no image",
        "b-000/003": "has no label",
        "b-000/005": "label `x` is not one of the 3 classes",
        "b-000/006": "has no label",
    }
    assert len(read(webdataset(str(tmp_path / "a-000.tar.gz")))) == 1


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_images_of_a_shard_are_not_read_before_their_turn(mode: str, tmp_path: Path) -> None:
    """Listing reads the labels; then the images come in the order of the shard."""
    members = [("1.png", PNG), ("1.cls", b"1"), ("2.png", OTHER), ("3.png", PNG), ("3.cls", b"0")]
    source = webdataset(make_tar(tmp_path / "x.tar", members, mode))
    assert source.num_images == 3
    for _ in range(2):  # a second reading starts anew
        assert list(read(source).items()) == [("x/1", "1"), ("x/3", "0")]
        assert reasons(source) == {"x/2": "has no label"}
    (tmp_path / "class_names.txt").write_text("cat\ndog\n")
    assert read(webdataset(str(tmp_path / "x.tar"))) == {"x/1": "dog", "x/3": "cat"}


@pytest.mark.parametrize("name", ["class_names.txt", "classnames.txt"])
def test_webdataset_with_names(name: str, tmp_path: Path) -> None:
    make_tar(
        tmp_path / "x.tar", [("1.png", PNG), ("1.cls", b"1"), ("2.png", PNG), ("2.cls", b"cat")]
    )
    (tmp_path / name).write_text("cat\ndog\n")
    assert list(read(webdataset(str(tmp_path))).values()) == ["dog", "cat"]


def test_webdataset_without_labels(tmp_path: Path) -> None:
    source = webdataset(make_tar(tmp_path / "x.tar", [("1.png", PNG), ("2.png", OTHER)]))
    assert list(read(source).values()) == ["all", "all"]


def test_a_truncated_shard_ends_alone(tmp_path: Path) -> None:
    members = [(f"{i}.{kind}", PNG if kind == "png" else b"0") for i in range(4)
               for kind in ("cls", "png")]  # fmt: skip
    for name in ("a", "b", "c"):
        make_tar(tmp_path / f"{name}.tar", members)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: 512 * 4 * 2 + 512 * 3 + 20])  # in the third image
    (tmp_path / "b.tar").write_bytes(b"rubbish" * 200)
    source = webdataset(str(tmp_path))
    assert list(read(source)) == ["a/0", "a/1", *(f"c/{i}" for i in range(4))]
    assert set(reasons(source)) == {"a.tar", "b.tar", "a/2"}
    assert reasons(source)["a.tar"].startswith("cannot be read beyond `a/2.png`: ")
    assert reasons(source)["a/2"].startswith("cannot be read: ")


@pytest.mark.parametrize("cut", ["inside a header", "after a member", "rubbish"])
def test_a_shard_that_ends_between_members_is_named(cut: str, tmp_path: Path) -> None:
    members = [(f"{i}.{kind}", PNG if kind == "png" else b"0") for i in range(3)
               for kind in ("png", "cls")]  # fmt: skip
    path = Path(make_tar(tmp_path / "a.tar", members))
    half = 512 * 4 * 2  # two samples of two members
    whole = path.read_bytes()
    ends = {"inside a header": whole[: half + 100], "after a member": whole[:half]}
    path.write_bytes(ends.get(cut, whole[:half] + b"\xff" * 512 + whole[half + 512 :]))
    source = webdataset(str(path))
    assert list(read(source)) == ["a/0", "a/1"]
    assert reasons(source) == {
        "a.tar": "cannot be read beyond `a/1.cls`: no end mark follows; it may be cut short"
    }


def test_links_and_devices_in_shards_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, data in (("1.png", PNG), ("1.cls", b"0")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    source = webdataset(str(tmp_path / "x.tar"))
    assert list(read(source)) == ["x/1"]
    assert reasons(source) == {"x/2.png": "`2.png` is not a regular file"}


def test_unreadable_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no tar files"):
        webdataset(str(tmp_path))
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read: "):
        webdataset(str(tmp_path))
