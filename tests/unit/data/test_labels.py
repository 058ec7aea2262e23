from pathlib import Path
from typing import Any

import pytest

from scalegan.data.labels import (
    BadLabel,
    Classes,
    Columns,
    LabelFile,
    read_label_file,
    refuse_undecoded,
)
from scalegan.errors import DataError


def read(path: Path) -> LabelFile:
    return read_label_file(path.read_bytes(), path.name)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 2], ["0", "1", "2"]),
        (["0", "2.0", " 1 "], ["0", "1", "2"]),  # pandas writes 2 as 2.0 beside a gap
        (["cat", "dog", "cat", None, "nan"], ["cat", "dog"]),
        ([10, 9, 8, "n/a"], [str(i) for i in range(11)]),  # one slip makes no names of numbers
        (["3", "cat", "dog"], ["3", "cat", "dog"]),
        ([0, 10**12], ["0"]),  # a slip of the pen makes no million classes
    ],
)
def test_class_table(labels: list[Any], names: list[str]) -> None:
    assert Classes(labels).names == names


def test_class_table_without_labels() -> None:
    with pytest.raises(DataError, match=r"^no label can be read$"):
        Classes([None, "", True])


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (None, "has no label"),
        ("", "has no label"),
        (float("nan"), "has no label"),
        (3, "label 3 is outside 0..2"),
        (-1, "label -1 is outside 0..2"),
        (1.5, "label `1.5` is not one of the 3 classes"),
        ("cat\n?", "label `cat\\n?` is not one of the 3 classes"),
        ([0, 1], "label `[0, 1]` is neither a number nor a name"),
        (True, "label `True` is neither a number nor a name"),
        ("9" * 5000, f"label `{'9' * 60}` is not one of the 3 classes"),
    ],
)
def test_bad_labels(label: Any, reason: str) -> None:
    with pytest.raises(BadLabel) as caught:
        Classes([0, 1, 2]).index(label)
    assert str(caught.value) == reason


def test_an_index_stays_one_where_classes_are_named_by_numbers() -> None:
    classes = Classes(names=["5", "1", "3"])
    assert [classes.index(label) for label in (1, "1", "5", 0)] == [1, 1, 0, 0]


FILES = {
    "a.csv": "file,label\na.png,1\nb.png,0\n",
    "bom.csv": "\ufeffid;Class;Path\n7;1;a.png\n8;0;b.png\n",
    "tabs.tsv": "filename\tlabel\na.png\t1\nb.png\t0\n",
    "bare.csv": "a.png,1\n\nb.png,0\n",
    "quoted.csv": 'path,label\r\n"a.png",1\r\n"b.png",0\r\n',
    "stylegan.json": '{"labels": [["a.png", 1], ["b.png", 0]]}',
    "objects.json": '[{"file_name": "a.png", "label": 1}, {"file_name": "b.png", "label": 0}]',
    "map.json": '{"a.png": 1, "b.png": 0}',
    "metadata.jsonl": '{"file_name": "a.png", "label": 1}\n\n{"file_name": "b.png", "label": 0}\n',
}


@pytest.mark.parametrize("name", FILES)
def test_kinds_of_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    labels, names, *_ = read(tmp_path / name)
    assert [(file, int(label)) for file, label in labels] == [("a.png", 1), ("b.png", 0)]
    assert names is None


CAPTIONS = "img,text\n" + "".join(f"a.png,number {i}\n" for i in range(20))
HEADS = ["file,label", "image_id,label", "id,breed", "FileName , Label", "x,y", ""]
SHAPES = {
    "plain": "{0},{1}\n",
    "blanks": "{0} , {1} \n",
    "quotes": '"{0}", "{1}"\n',
    "semicolons": "{0};{1}\n",
    "tabs": "{0}\t{1}\n",
    "bars": "{0}|{1}\n",
    "blank": "{0} {1}\n",
    "carriage returns": "{0},{1}\r",
    "Excel's": "{0};{1}\r\n",
    "labels first": "{1},{0}\n",
    "a number before": "7,{0},{1}\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_tables_of_every_make(head: str, shape: str, encoding: str) -> None:
    """The file is known by its names of images, whatever is around them."""
    rows = [("0.png", "cat"), ("1.png", "caf\u00e9"), ("2.png", "cat")]
    row = SHAPES[shape]
    if shape == "a number before":
        head = head if "label" in head.lower() else "i,file,label"
        row, head = row, head if head.count(",") == 2 else f"n,{head}"
    first = row.format(*head.split(",")) if head and head.count(",") == 1 else head and head + "\n"
    text = ("sep=;\r\n" if shape == "Excel's" else "") + first
    text += "".join(row.format(*pair) for pair in rows)
    names = {name for name, _ in rows}
    found = read_label_file(
        text.encode(encoding), "x.csv", is_image=lambda name: name.strip() in names
    )
    assert [(file.strip(), label.strip()) for file, label in found.labels] == rows
    known = "label" in head.lower() and "file" in head.lower()
    assert bool(found.notes) == bool(head and not known)


def test_a_separator_inside_a_name_of_a_class() -> None:
    text = "name;kind\na.png;tench, Tinca tinca\nb.png;goldfish, Carassius auratus\n"
    found = read_label_file(text.encode(), "x.csv", is_image=["a.png", "b.png"].__contains__)
    assert found.labels[0] == ("a.png", "tench, Tinca tinca")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("i,img,breed\n0,a.png,cat\n", "no column of a usual name for labels: i, img", "?label="),
        ("img,label,class\na.png,0,0\nb.png,0,1\n", "`label` (0) and `class` (0)", "?label=label"),
        ("a.png,0,1\n", "3 columns, no header", "?label="),
        (
            "img,text\n" + "".join(f"a.png,{i}\n" for i in range(20)),
            "20 classes of 20",
            "?label=text",
        ),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: str, message: str, hint: str) -> None:
    images = ["a.png", "b.png"]
    with pytest.raises(DataError) as caught:
        read_label_file(text.encode(), "x.csv", is_image=images.__contains__)
    assert message in str(caught.value) and hint in caught.value.hint
    column = Columns(label=text.partition("\n")[0].split(",")[-1])
    if not column.label.isdigit():
        assert read_label_file(text.encode(), "x.csv", column, images.__contains__).labels


def test_columns_that_agree_are_no_ambiguity() -> None:
    text = b"file,label,class_name\na.png,0,cat\nb.png,1,dog\n"
    assert read_label_file(text, "x.csv").labels == [("a.png", "0"), ("b.png", "1")]


def test_bytes_in_another_encoding_are_asked_about() -> None:
    data = "file,label\na.png,caf\u00e9\n".encode("latin-1")
    with pytest.raises(
        DataError, match="may be `caf\u00e9` in cp1252 or `caf\u0439` in cp1251"
    ) as caught:
        refuse_undecoded([label for _, label in read_label_file(data, "x.csv").labels], "x.csv")
    assert "PATH?encoding=cp1252" in caught.value.hint
    found = read_label_file(data, "x.csv", Columns(encoding="latin-1"))
    assert found.labels == [("a.png", "caf\u00e9")]
    with pytest.raises(DataError, match="holds null characters, as UTF-16 does"):
        read_label_file("file,label\n".encode("utf-16-le"), "x.csv")
    with pytest.raises(DataError, match="cannot be decoded: unknown encoding: nonsense"):
        read_label_file(data, "x.csv", Columns(encoding="nonsense"))


def test_names_of_classes_and_missing_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"labels": {"a.png": 1}, "class_names": ["cat", "dog"]}')
    assert read(path)[:2] == ([("a.png", 1)], ["cat", "dog"])
    path.write_text('{"labels": null}')
    assert read(path)[:2] == ([], None)
    (tmp_path / "short.csv").write_text("file,label\na.png\n")
    assert read(tmp_path / "short.csv").labels == [("a.png", "")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "is not JSON: "),
        ("x.json", "[" * 100_000, "is not JSON: "),
        ("x.json", "7", "holds no list of pairs"),
        ("x.json", "[1]", "holds '1'; expected a file and its label"),
        ("x.json", '{"labels": [], "class_names": [1]}', "is not a list of names"),
        ("x.jsonl", '{"a": 1}\n[2]', "expected a file and its label"),
        ("x.jsonl", '{"a": 1}\nrubbish', "is not JSON: "),
        ("x.csv", "", "has no columns for file and label: it is empty"),
        ("x.csv", "a,b,c\n1,2,3\n", "has no columns for file and label: a, b, c"),
    ],
)
def test_unreadable_files(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert message in str(caught.value)
