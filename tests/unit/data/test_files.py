import os
from pathlib import Path

import pytest

from scalegan.data.files import flat, folder
from scalegan.data.images import MAX_BYTES
from scalegan.data.names import escape
from scalegan.data.sources import Source, guess_kind, open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import DataError
from tests.support.hostile import encode, noise, write

PNG = encode(noise(0, 4, 4))


def read(source: Source) -> dict[str, str]:
    """Class name by key, in order; keys must be unique."""
    items = list(source)
    found = {item.key: source.class_names[item.label] for item in items}
    assert len(found) == len(items) and all(isinstance(item.image, bytes) for item in items)
    return found


def reasons(source: Source) -> dict[str, str]:
    return {problem.key: problem.reason for problem in source.problems}


def test_folder_per_class(tmp_path: Path) -> None:
    for name in ("dog/b.png", "dog/a.JPG", "cat/deep/er/c.webp", "cat/no-suffix", "cat/notes.txt"):
        write((tmp_path / name).parent, Path(name).name, PNG if "txt" not in name else b"hi")
    (tmp_path / "empty").mkdir()
    source = folder(str(tmp_path))
    assert source.class_names == ["cat", "dog", "empty"] and source.num_images == 4
    expected = {"cat/deep/er/c.webp": "cat", "cat/no-suffix": "cat",
                "dog/a.JPG": "dog", "dog/b.png": "dog"}  # fmt: skip
    assert list(read(source).items()) == list(expected.items())
    assert source.problems == []
    assert source.notes == [
        "1 files are no images by name and content and were passed over, such as `cat/notes.txt`"
    ]
    assert read(folder(str(tmp_path))) == expected


def test_folder_without_classes_is_one_class(tmp_path: Path) -> None:
    write(tmp_path / "pets", "a.png", PNG)
    source = folder(str(tmp_path / "pets"))
    assert read(source) == {"a.png": "pets"}
    assert "has no labels: all images are one class" in source.notes[0]


def test_of_several_splits_one_is_read(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split / "cat", f"{split}.png", PNG)
    source = folder(str(tmp_path))
    assert read(source) == {"train/cat/train.png": "cat"}
    assert "only the split `train` is read, not val; ?split=NAME chooses" in source.notes[0]
    assert source.passed_over == [("val/cat/val.png", "of the split `val`", "other split")]
    assert read(folder(f"{tmp_path}?split=val")) == {"val/cat/val.png": "cat"}
    assert set(read(folder(f"{tmp_path}?split=none")).values()) == {"train", "val"}
    with pytest.raises(DataError, match="has no split `test`; it has train, val"):
        folder(f"{tmp_path}?split=test")


def test_links_are_followed_once_and_outwards_only(tmp_path: Path) -> None:
    write(tmp_path / "outside" / "sub", "a.png", PNG)
    (tmp_path / "outside" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "outside" / "round").symlink_to(tmp_path / "outside")
    write(tmp_path / "in" / "cat", "b.png", PNG)
    (tmp_path / "in" / "cat" / "link.png").symlink_to("b.png")
    (tmp_path / "in" / "dog").symlink_to(tmp_path / "outside")
    source = folder(str(tmp_path / "in"))
    expected = {"cat/b.png": "cat", "cat/link.png": "cat", "dog/sub/a.png": "dog"}
    assert read(source) == expected
    assert set(reasons(source)) == {"dog/back", "dog/round"}


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "cat", "a.png", PNG)
    with (tmp_path / "cat" / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse
    source = folder(str(tmp_path))
    assert list(read(source)) == ["cat/a.png"]
    assert reasons(source)["cat/huge.png"].startswith("has 268,435,457 bytes; at most")


def test_a_file_that_goes_away_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "cat", "a.png", PNG)
    write(tmp_path / "cat", "b.png", PNG)
    source = folder(str(tmp_path))
    (tmp_path / "cat" / "a.png").unlink()
    assert list(read(source)) == ["cat/b.png"]
    assert reasons(source) == {"cat/a.png": "cannot be read: No such file or directory"}


def test_escaped_names_are_one_line_of_utf8_and_stay_different() -> None:
    names = ["a\nb", "a\\nb", "\u00e9", "a b", os.fsdecode(b"\xff"), "\\udcff", "\u2028", "a\x85"]
    escaped = [escape(name) for name in names]
    assert len(set(escaped)) == len(names)
    assert all(text.encode("utf-8") and len(text.splitlines()) == 1 for text in escaped)
    assert escaped[2:4] == names[2:4]


def test_flat_folder_with_labels(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "sub/d.png"):
        write((tmp_path / name).parent, Path(name).name, PNG)
    table = "file,label\na.png,cat\nsub/d.png,dog\nb.png,\na.png,dog\n./a.png,dog\nlost.png,cat\n"
    (tmp_path / "labels.csv").write_text(table)
    for where in (tmp_path, tmp_path / "labels.csv"):
        source = flat(str(where))
        assert source.class_names == ["cat", "dog"]
        assert read(source) == {"a.png": "cat", "sub/d.png": "dog"}
        assert len(source.problems) == 5
        assert reasons(source) == {
            "b.png": "has no label",
            "a.png": "is listed twice; the first one is kept",
            "./a.png": "is listed twice; the first one is kept",
            "lost.png": "cannot be read: No such file or directory",
            "c.png": "has no label in `labels.csv`",
        }


def test_flat_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file of labels"):
        flat(str(tmp_path))
    (tmp_path / "labels.csv").write_text("file,label\na.png,\n")
    with pytest.raises(DataError, match=r"labels.csv`: no label can be read"):
        flat(str(tmp_path))


def test_plain_paths_find_their_kind(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert guess_kind(tmp_path) == "folder"
    kinds = {"x.tar": "webdataset", "x.parquet": "parquet", "labels.csv": "flat", "x.zip": "zip",
             "x.npz": "npz", "x.tar.gz": "webdataset"}  # fmt: skip
    for name, kind in kinds.items():
        path = tmp_path / kind
        write(path, name, b"")
        assert guess_kind(path / name) == kind
        if kind in ("parquet", "webdataset"):
            assert guess_kind(path) == kind
    write(tmp_path, "x.rar", b"")
    with pytest.raises(DataError, match="is no kind of file that images are read from"):
        guess_kind(tmp_path / "x.rar")
    with pytest.raises(DataError, match=r"^the source `zip` needs a path$"):
        open_source("zip:", SOURCES)
    with pytest.raises(DataError, match=r"^there is no folder"):
        open_source(f"folder:{tmp_path / 'x.rar'}", SOURCES)


def test_a_folder_named_like_a_source_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "digits" / "seven", "a.png", PNG)
    monkeypatch.chdir(tmp_path)
    assert open_source("digits", SOURCES).class_names == ["seven"]
