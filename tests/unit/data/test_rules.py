"""The table of rules in docs/data.md, cell by cell: every source does what its cell says."""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalegan.data import images
from scalegan.data.sources import Source, decode_each, open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import DataError
from tests.support.hostile import encode, noise, write
from tests.unit.data.test_listings import make_tar

PNG = [encode(noise(i, 4, 4)) for i in range(4)]
ARRAYS = np.stack([noise(i, 4, 4) for i in range(4)])
BOTH = {f"{i}.png": PNG[i] for i in range(4)}
LABELED = {"labels.csv": b"id,kind\n0.png,cat\n1.png,dog\n2.png,cat\n3.png,dog\n"}
CLASSES = {f"{['cat', 'dog'][i % 2]}/{i}.png": PNG[i] for i in range(4)}
HEADS = re.compile(r"^\| Situation \|.*\n\|[-|]+\n((?:\|.*\n)+)", re.MULTILINE)


def in_folder(where: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        write((where / "x" / name).parent, Path(name).name, data)
    return str(where / "x")


def in_zip(where: Path, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(where / "x.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(where / "x.zip")


def in_tar(where: Path, files: dict[str, bytes]) -> str:
    return make_tar(where / "x.tar", list(files.items()))


def in_parquet(where: Path, columns: dict[str, Any], name: str = "x.parquet") -> str:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    pytest.importorskip("pyarrow.parquet")
    (where / "p" / name).parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": data, "path": ""} for data in columns["image"]]
    pyarrow.parquet.write_table(pyarrow.table(columns | {"image": cells}), where / "p" / name)
    return str(where / "p")


def in_npz(where: Path, arrays: dict[str, Any]) -> str:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (where / "x.npz").write_bytes(buffer.getvalue())
    return str(where / "x.npz")


FILES = {"folder": in_folder, "zip": in_zip, "webdataset": in_tar}


def with_labels(labels: list[Any]) -> dict[str, Callable[[Path], str]]:
    """Parquet and npz with these labels."""
    return {
        "parquet": lambda where: in_parquet(where, {"image": PNG, "label": labels}),
        "npz": lambda where: in_npz(where, {"arr_0": ARRAYS, "arr_1": np.array(labels)}),
    }


def two_splits(where: Path) -> str:
    in_parquet(where, {"image": PNG[:2], "label": ["cat", "dog"]}, "train-0.parquet")
    return in_parquet(where, {"image": PNG[2:], "label": ["cat", "dog"]}, "test-0.parquet")


def with_hidden(where: Path) -> str:
    in_parquet(where, {"image": PNG, "label": ["cat", "dog"] * 2})
    write(where / "p", "._x.parquet", b"\0\5")
    return in_parquet(where, {"image": PNG, "label": ["cat", "dog"] * 2})


def with_text(where: Path) -> str:
    write(where / "p", "README.md", b"about")
    return in_parquet(where, {"image": PNG, "label": ["cat", "dog"] * 2})


LARGE = encode(noise(9, 60, 60))
SITUATIONS: dict[str, tuple[dict[str, bytes] | None, dict[str, Callable[[Path], str]]]] = {
    "folders at the top": (CLASSES, {}),
    "one folder around everything": (
        {f"data/{name}": data for name, data in CLASSES.items()},
        {"parquet": lambda where: in_parquet(
            where, {"image": PNG, "label": ["cat", "dog"] * 2}, "data/x.parquet")},
    ),
    "folders or files named like splits": (
        {f"{['train', 'val'][i // 2]}/{['cat', 'dog'][i % 2]}/{i}.png": PNG[i] for i in range(4)},
        {"parquet": two_splits},
    ),
    "a file of labels at the top": (BOTH | LABELED, {}),
    "a file of labels and folders": (
        {f"a/{name}": data for name, data in BOTH.items()}
        | {"labels.csv": b"id,kind\n" + b"".join(b"a/%d.png,%s\n" % (i, [b"cat", b"dog"][i % 2])
                                                 for i in range(4))},
        {},
    ),
    "two files of labels that disagree": (
        BOTH | LABELED | {"dataset.json": b'{"labels": [["0.png", "dog"]]}'}, {}
    ),
    "an image that the file of labels leaves out": (
        BOTH | {"labels.csv": b"id,kind\n0.png,cat\n1.png,dog\n2.png,cat\n"}, {}
    ),
    "a label of a file that is not there": (
        BOTH | {"labels.csv": LABELED["labels.csv"] + b"4.png,dog\n"}, {}
    ),
    "`.cls` or `.json` beside images": (
        BOTH | {f"{i}.cls": [b"cat", b"dog"][i % 2] for i in range(4)}, {}
    ),
    "a column or an array of labels": (None, with_labels(["cat", "dog", "cat", "dog"])),
    "no labels at all": (
        BOTH,
        {
            "parquet": lambda where: in_parquet(where, {"image": PNG}),
            "npz": lambda where: in_npz(where, {"arr_0": ARRAYS}),
        },
    ),
    "a label of -1": (
        BOTH | {"labels.csv": b"id,kind\n0.png,0\n1.png,1\n2.png,0\n3.png,-1\n"},
        with_labels([0, 1, 0, -1]),
    ),
    "hidden and system files": (
        CLASSES | {"__MACOSX/cat/._0.png": b"\0\5", "cat/.DS_Store": b"", "cat/Thumbs.db": b"x"},
        {"parquet": with_hidden},
    ),
    "a file that is no image": (CLASSES | {"cat/notes.txt": b"about"}, {"parquet": with_text}),
    "an image without a suffix": (
        {name.replace("2.png", "2"): data for name, data in CLASSES.items()},
        {"parquet": with_labels(["cat", "dog", "cat", "dog"])["parquet"]},
    ),
    "an image that is damaged": (
        CLASSES | {"cat/2.png": PNG[2][:40]},
        {"parquet": lambda where: in_parquet(
            where, {"image": [*PNG[:3], PNG[3][:40]], "label": ["cat", "dog", "cat", "dog"]})},
    ),
    "a file over the limit": (
        CLASSES | {"cat/2.png": LARGE},
        {"parquet": lambda where: in_parquet(
            where, {"image": [*PNG[:3], LARGE], "label": ["cat", "dog", "cat", "dog"]})},
    ),
}  # fmt: skip


def cells() -> list[tuple[str, str, str]]:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    found = HEADS.search(text)
    assert found is not None
    heads = [cell.strip(" `") for cell in found[0].splitlines()[0].strip("|").split("|")][1:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]
    return [(row[0], kind, says) for row in rows for kind, says in zip(heads, row[1:], strict=True)]


def outcome(source: Source) -> str:
    """What a source of two or four images became, in the words of the table."""
    found = list(decode_each(source, must_be_square=False))
    good = [image for image, decoded in found if not isinstance(decoded, images.Problem)]
    lost = len(found) - len(good) + len(source.problems)
    names = [source.class_names[image.label] for image in good]
    if (source.class_names != ["all"] and len(source.class_names) == 1) or names == ["all"] * 4:
        assert len(good) == 4 and any("all images are one class" in note for note in source.notes)
        return "one class, said"
    if any(problem.kind == "other split" for problem in source.passed_over):
        assert len(good) == 2 and any("only the split `train`" in note for note in source.notes)
        return "`train`, said"
    assert len(set(names)) == 2
    if lost:
        assert lost == 1
        return "left out"
    if source.passed_over:
        assert len(good) == 4
        return "passed over"
    assert len(good) == 4
    return "read"


def test_the_table_has_every_situation() -> None:
    assert sorted({situation for situation, _, _ in cells()}) == sorted(SITUATIONS)
    assert {kind for _, kind, _ in cells()} == {*FILES, "parquet", "npz"}


@pytest.mark.parametrize(("situation", "kind", "says"), cells())
def test_a_cell_of_the_table(
    situation: str, kind: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, others = SITUATIONS[situation]
    if kind in FILES and files is not None:
        where = FILES[kind](tmp_path, files)
    elif kind in others:
        where = others[kind](tmp_path)
    else:
        assert says == "-"
        return
    if situation == "a file over the limit":
        monkeypatch.setattr(images, "MAX_BYTES", 2000)
    try:
        found = outcome(open_source(where, SOURCES))
    except DataError as error:
        assert error.hint
        found = "refused"
    assert found == says
