import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from scalegan.data import images
from scalegan.data.memory import read_into_memory
from scalegan.data.sources import Source, open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import DataError
from tests.support.hostile import encode, noise
from tests.unit.data.test_files import read, reasons
from tests.unit.data.test_rules import FILES, in_folder, in_tar, in_zip

PNG = [encode(noise(i, 4, 4)) for i in range(6)]
KINDS = ["cat", "dog", "ox"]
Maker = Callable[[Path, dict[str, bytes]], str]
each_form = pytest.mark.parametrize("form", FILES.values())


def opened(form: Maker, where: Path, files: dict[str, bytes], options: str = "") -> Source:
    return open_source(form(where, files) + options, SOURCES)


def table(names: list[str]) -> bytes:
    return json.dumps({"labels": [[name, i % 3] for i, name in enumerate(names)]}).encode()


@each_form
@pytest.mark.parametrize("around", ["", "data/", "data/train/"])
@pytest.mark.parametrize("place", ["dataset.json", "metadata.jsonl", "labels.csv"])
def test_a_file_of_labels_wins_over_folders(
    form: Maker, around: str, place: str, tmp_path: Path
) -> None:
    names = [f"{i // 3:05d}/img{i}.png" for i in range(6)]
    lines = [json.dumps({"file_name": name, "label": i % 3}) for i, name in enumerate(names)]
    csv = "\n".join(["file,label", *(f"{name},{i % 3}" for i, name in enumerate(names))])
    text = {"dataset.json": table(names), "metadata.jsonl": "\n".join(lines).encode(),
            "labels.csv": csv.encode()}[place]  # fmt: skip
    files = {around + name: data for name, data in zip(names, PNG, strict=True)}
    source = opened(form, tmp_path, files | {around + place: text})
    assert list(read(source).values()) == ["0", "1", "2", "0", "1", "2"]
    assert source.problems == [] and source.passed_over == []
    assert source.notes == [
        f"labels are those of `{place}`, not the names of the 2 folders; "
        "?labels=folders takes those"
    ]
    source = opened(form, tmp_path, files | {around + place: text}, "?labels=folders")
    assert source.class_names == ["00000", "00001"]
    assert [one.key.endswith(place) for one in source.passed_over] == [True]


@each_form
def test_names_in_labels_are_found_however_they_are_written(form: Maker, tmp_path: Path) -> None:
    names = [f"caf\u00e9/{i}.png" for i in range(6)]
    written = [unicodedata.normalize("NFD", names[0]), names[1].replace("/", "\\"), f"./{names[2]}",
               f" {names[3]} ", f"caf\u00e9//{names[4][5:]}", names[5]]  # fmt: skip
    files = dict(zip(names, PNG, strict=True)) | {"dataset.json": table(written)}
    source = opened(form, tmp_path, files)
    assert len(read(source)) == 6 and source.problems == []


@each_form
def test_a_name_that_may_be_two_files_is_not_guessed(form: Maker, tmp_path: Path) -> None:
    names = [unicodedata.normalize(kind, "\u00e9.png") for kind in ("NFC", "NFD")]
    files = dict(zip(names, PNG, strict=False))
    source = opened(form, tmp_path, files | {"dataset.json": table(["./\u00e9.png", *names])})
    assert len(read(source)) == 2
    assert [one.reason[:7] for one in source.problems] == ["may be "]


@each_form
def test_folders_that_look_alike_are_refused(form: Maker, tmp_path: Path) -> None:
    names = [unicodedata.normalize(kind, "\u00e9") for kind in ("NFC", "NFD")]
    files = {f"{name}/a.png": data for name, data in zip(names, PNG, strict=False)}
    with pytest.raises(DataError, match="has two folders `\u00e9`, whose accents"):
        opened(form, tmp_path, files)


def test_names_that_are_not_utf8_are_found_by_their_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    rows = b"file,label\ncaf\xe9.png,cat\n"
    for form in (in_folder, in_tar):
        source = opened(form, tmp_path, {name: PNG[0], "labels.csv": rows})
        assert len(read(source)) == 1 and source.problems == []
        (tmp_path / "x" / name).unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"`labels.csv` is not UTF-8: "):
        opened(in_zip, tmp_path, {"caf\u00e9.png": PNG[0], "labels.csv": rows})
    found = opened(
        in_zip, tmp_path, {"caf\u00e9.png": PNG[0], "labels.csv": rows}, "?encoding=cp1252"
    )
    assert read(found) == {"caf\u00e9.png": "cat"}


@each_form
def test_classes_that_differ_by_case_are_said(form: Maker, tmp_path: Path) -> None:
    source = opened(form, tmp_path, {"Cat/0.png": PNG[0], "cat/1.png": PNG[1]})
    assert "the classes `Cat` and `cat` differ by case alone" in read_into_memory(source).notes


def test_an_archive_takes_labels_that_lie_beside_it_if_they_are_its_own(tmp_path: Path) -> None:
    files = {f"{i}.png": PNG[i] for i in range(6)}
    for form in (in_zip, in_tar):
        (tmp_path / "labels.csv").write_text("something,else,again\n1,2,3\n")
        assert opened(form, tmp_path, files).class_names == ["all"]
        rows = [f"{name},{KINDS[i % 3]}" for i, name in enumerate(files)]
        (tmp_path / "labels.csv").write_text("\n".join(rows))
        assert list(read(opened(form, tmp_path, files)).values()) == KINDS * 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data-00000-of-00001.arrow", "an Arrow file, as `save_to_disk` writes it"),
        ("train.zip", "an archive or table among the files"),
        ("batch.pkl", "a pickle, which may run programs"),
        ("notes", "no image by name and content"),
    ],
)
def test_a_source_without_images_says_what_lies_there(name: str, said: str, tmp_path: Path) -> None:
    for form in FILES.values():
        source = opened(form, tmp_path, {name: b"\x80\3}q\0"})
        with pytest.raises(DataError) as caught:
            read_into_memory(source)
        assert f"`{name}`, {said}" in str(caught.value).replace("`x/", "`")
        assert str(tmp_path) in str(caught.value)


def test_options_are_checked(tmp_path: Path) -> None:
    where = in_folder(tmp_path, {"a.png": PNG[0]})
    with pytest.raises(DataError, match="`colour` is no option of this source"):
        open_source(f"{where}?split=val&colour=red", SOURCES)
    with pytest.raises(DataError, match=r"there is no file of labels `none.csv` in or beside"):
        open_source(f"{where}?labels=none.csv", SOURCES)
    with pytest.raises(DataError, match="has no split `val`"):
        open_source(f"{where}?split=val", SOURCES)


@each_form
def test_a_file_of_labels_beyond_the_limit_is_not_read(
    form: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 2000)
    with pytest.raises(DataError, match=r"`labels.csv` in .* cannot be read: has 3,000 bytes"):
        opened(form, tmp_path, {"a.png": PNG[0], "labels.csv": b"x" * 3000})


def test_a_table_without_rows_labels_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no label can be read"):
        opened(in_folder, tmp_path, {"a.png": PNG[0], "labels.csv": b"file,label\n"})


def test_unlabeled_images_are_listed_with_the_file_that_lacks_them(tmp_path: Path) -> None:
    files = {f"{i}.png": PNG[i] for i in range(3)}
    source = opened(in_zip, tmp_path, files | {"labels.csv": b"0.png,cat\n1.png,dog\n"})
    assert len(read(source)) == 2
    assert reasons(source) == {"2.png": "has no label in `labels.csv`"}


def test_folders_of_any_name_are_classes(tmp_path: Path) -> None:
    names = [" blank ", "back\\slash", os.fsdecode(b"caf\xe9"), "7", "line\nbreak", "nan"]
    files = {f"{name}/0.png": data for name, data in zip(names, PNG, strict=True)}
    for form in (in_folder, in_tar):
        source = opened(form, tmp_path, files)
        assert len(set(read(source).values())) == 6 and source.problems == []
    one = opened(in_tar, tmp_path, {f"{names[2]}/0.png": PNG[0]})
    assert list(read(one).values()) == ["caf\\udce9"]
