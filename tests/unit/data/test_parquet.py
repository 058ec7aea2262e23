import json
import sys
from pathlib import Path
from typing import Any

import pytest

from scalegan.data.parquet import parquet
from scalegan.errors import DataError
from tests.conftest import PARITY
from tests.support.hostile import encode, noise
from tests.unit.data.test_files import read, reasons

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
pytest.importorskip("pyarrow.parquet")

CIFAR = PARITY.parent / "data" / "cifar10"
PNG = encode(noise(0, 4, 4))
IMAGES = [{"bytes": PNG, "path": f"{i}.png"} for i in range(3)]
NAMED = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def make(path: Path, columns: dict[str, Any], features: Any = None, **metadata: Any) -> str:
    table = pyarrow.table(columns)
    if features:
        metadata["huggingface"] = {"info": {"features": features}}
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table.replace_schema_metadata(texts), path, row_group_size=2)
    return str(path)


def test_hugging_face_layout(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "label": [1, -1, 0], "id": [b"1", b"2", b"3"]}
    source = parquet(make(tmp_path / "train.parquet", columns, NAMED))
    assert source.num_images == 3 and source.class_names == ["cat", "dog"]
    assert read(source) == {"train/00000000": "dog", "train/00000002": "cat"}
    assert reasons(source) == {"train/00000001": "label -1 is outside 0..1"}


def test_names_from_other_places(tmp_path: Path) -> None:
    columns = {"image": [PNG, PNG], "label": [1, 0]}
    assert parquet(make(tmp_path / "a.parquet", columns)).class_names == ["0", "1"]
    named = make(tmp_path / "b.parquet", columns, class_names=["x", "y"])
    assert parquet(named).class_names == ["x", "y"]
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": NAMED}))
    assert parquet(make(tmp_path / "data" / "c.parquet", columns)).class_names == ["cat", "dog"]


def test_labels_as_text_and_none(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "label": ["dog", None, "cat"]}
    source = parquet(make(tmp_path / "a.parquet", columns))
    assert list(read(source).values()) == ["dog", "cat"]
    assert reasons(source) == {"a/00000001": "has no label"}
    assert (
        list(read(parquet(make(tmp_path / "b.parquet", {"image": IMAGES}))).values()) == ["all"] * 3
    )


def test_several_columns_of_labels_need_a_choice(tmp_path: Path) -> None:
    kind = {"names": ["a", "b"], "_type": "ClassLabel"}
    columns = {"img": IMAGES, "fine": [0, 1, 1], "coarse": [0, 0, 0]}
    path = make(tmp_path / "a.parquet", columns, {"fine": kind, "coarse": kind})
    with pytest.raises(DataError, match="several columns of labels: fine, coarse") as caught:
        parquet(path)
    assert caught.value.hint == "choose one with parquet:PATH?label=fine"
    assert list(read(parquet(f"{path}?label=fine")).values()) == ["a", "b", "b"]
    with pytest.raises(DataError, match="has no column `x`; it has img, fine, coarse"):
        parquet(f"{path}?label=x")


def test_cells_without_bytes(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "a.png"}, None, {"bytes": PNG, "path": None}]
    schema = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {"image": pyarrow.array(images, schema), "label": [0, 0, 0]}
    source = parquet(make(tmp_path / "a.parquet", columns))
    assert list(read(source)) == ["a/00000002"]
    assert set(reasons(source)) == {"a/00000000", "a/00000001"}


def test_files_read_the_training_split_and_name_damaged_files(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "label": [0, 1, 1]}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        make(tmp_path / "data" / f"{name}.parquet", columns, NAMED)
    source = parquet(str(tmp_path))
    assert len(read(source)) == 6 and all(
        key.startswith("train") for key in read(parquet(str(tmp_path)))
    )
    assert "only the split `train` is read, not test-00000-of-00001.parquet" in source.notes[0]
    assert len(read(parquet(f"{tmp_path}/data/test-*.parquet"))) == 3
    (tmp_path / "data" / "train-00000-of-00002.parquet").write_bytes(b"PAR1 rubbish PAR1")
    source = parquet(str(tmp_path))
    assert len(read(source)) == 3 and list(reasons(source)) == ["train-00000-of-00002.parquet"]


def test_damage_inside_a_file_ends_that_file_alone(tmp_path: Path) -> None:
    images = [{"bytes": encode(noise(i, 40, 40)), "path": ""} for i in range(400)]
    columns = {"image": images, "label": [0] * 400}
    for name in ("a", "b"):
        make(tmp_path / f"{name}.parquet", columns, NAMED)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60_000] = b"\xff" * 60_000
    (tmp_path / "a.parquet").write_bytes(data)
    source = parquet(str(tmp_path))
    keys = list(read(source))
    assert sum(key.startswith("b/") for key in keys) == 400
    assert [key for key in reasons(source) if not key.startswith("a/")] == ["a.parquet"]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there are no parquet files"):
        parquet(str(tmp_path))
    (tmp_path / "x.parquet").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"is not a readable parquet file: cannot be read: "):
        parquet(str(tmp_path / "x.parquet"))
    with pytest.raises(DataError, match=r"has 0 columns of encoded images among a$"):
        parquet(make(tmp_path / "y.parquet", {"a": [1]}))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match="need pyarrow, which is not installed") as caught:
        parquet(str(tmp_path / "y.parquet"))
    assert caught.value.hint == 'pip install "scalegan[parquet]"'


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"needs real images in {CIFAR}")
def test_cifar() -> None:
    source = parquet(str(CIFAR / "test.parquet"))
    items = list(source)
    assert len(items) == source.num_images == 10_000 and not source.problems
    assert source.class_names[:3] == ["airplane", "automobile", "bird"]
    assert [sum(item.label == i for item in items) for i in range(10)] == [1000] * 10
