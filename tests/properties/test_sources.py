"""Whatever lies in a source becomes an image or is listed, and every form of it reads alike."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalegan.cli import main
from scalegan.data.names import escape
from scalegan.data.shards import read_keys
from scalegan.data.sources import open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import DataError
from tests.support.hostile import encode, noise, write

PNG = encode(noise(0, 4, 4))
CONTENTS = {
    "image": PNG,
    "text": b"about",
    "label": b"cat",
    "json": b'{"label": "dog"}',
    "no label": b"{",
    "unread": b"\0\0\0\x18ftypheic" + bytes(20),
    "empty": b"",
}
PARTS = st.sampled_from(["cat", "dog", "train", "val", "a.b", ".git", "__MACOSX", "caf\u00e9",
                         "cafe\u0301", "x", "CAT"])  # fmt: skip
FILES = st.sampled_from(["1.png", "1.jpg", "1.seg.png", "1.cls", "1.json", "2.png", "2.txt", "3",
                         "._1.png", "Thumbs.db", "photo.1.png", "photo.1.cls", "4.heic",
                         "u\u0308.png", "back\\slash.png", "a b .png", "\udcff.png"])  # fmt: skip
NAMES = st.tuples(st.lists(PARTS, max_size=3), FILES).map(
    lambda pair: "/".join((*pair[0], pair[1]))
)
HEADERS = st.sampled_from([None, "file,label", "id,breed", '"file";"label"', "", "file\tlabel"])


def in_folder(where: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        write((where / "x" / name).parent, Path(name).name, data)
    (where / "x").mkdir(exist_ok=True)
    return f"folder:{where / 'x'}"


def in_zip(where: Path, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(where / "x.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return f"zip:{where / 'x.zip'}"


def in_tar(where: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(where / "x.tar.gz", "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return f"webdataset:{where / 'x.tar.gz'}"


def bases(name: str) -> set[str]:
    """What a sample may be called that a file belongs to."""
    folder, slash, file = name.rpartition("/")
    return {name, folder + slash + file.rpartition(".")[0], folder + slash + file.partition(".")[0]}


def is_covered(name: str, listed: set[str], suffixes: tuple[str, ...]) -> bool:
    """Whether a file, a folder around it, or the sample of its name is listed."""
    whole = escape(name)
    parts = whole.split("/")
    around = {"/".join(parts[: i + 1]) for i in range(len(parts))}
    samples = {base for key in listed for base in bases(key)}
    return bool(around & listed or (whole.lower().endswith(suffixes) and bases(whole) & samples))


@pytest.mark.parametrize("form", [in_folder, in_zip, in_tar])
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, st.sampled_from(sorted(CONTENTS)), max_size=12), HEADERS)
def test_every_file_is_an_image_or_is_listed(
    tmp_path_factory: pytest.TempPathFactory, form: object, found: dict[str, str], table: str | None
) -> None:
    names = {name for name in found if not any(other.startswith(f"{name}/") for other in found)}
    if form is in_zip:
        # No zip can hold the one, and the other is a path in it.
        names = {name for name in names if "\udcff" not in name and "\\" not in name}
    files = {name: CONTENTS[found[name]] for name in names}
    if table is not None:
        cut = next((mark for mark in ";\t" if mark in table), ",")
        rows = [f"{name}{cut}cat" for name in sorted(names)[::2] if "\udcff" not in name]
        files["labels.csv"] = "\n".join([table, *rows, ""]).encode()
    where = tmp_path_factory.mktemp("source")
    try:
        source = open_source(form(where, files), SOURCES)  # type: ignore[operator]
    except DataError as error:
        assert str(error)
        return
    keys = [image.key for image in source]
    assert len(set(keys)) == len(keys)
    problems = {problem.key for problem in [*source.problems, *source.passed_over]}
    assert all(problem.reason for problem in source.problems)
    prefix = "x.tar/" if form is in_tar else ""
    listed = {key.removeprefix(prefix) for key in {*keys, *problems}}
    # An image of a shard is called by its sample, and a label that is used by its image.
    loose = (".cls", ".json") + ((".png", ".jpg", ".heic", ".txt") if form is in_tar else ())
    lost = [name for name in names if not is_covered(name, listed, loose)]
    assert not lost, (lost, keys, problems)
    if form is not in_tar:  # each file is counted once
        named = [key for key in keys if key in {escape(name) for name in names}]
        assert len(named) == len(keys) and not {*keys} & problems


IMAGES = [noise(i, 8, 8) for i in range(12)]
LABELS = [i % 3 for i in range(12)]
CLASSES = ["cat", "dog", "ox"]


def corpus(root: Path) -> dict[str, str]:
    """One corpus in eight forms, by their names."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    pytest.importorskip("pyarrow.parquet")
    names = [f"{i:08d}.png" for i in range(12)]
    data = [encode(image) for image in IMAGES]
    rows = list(zip(names, data, LABELS, strict=True))
    table = {"labels": [[name, CLASSES[label]] for name, _, label in rows]}
    csv = "\n".join(["image_id,kind", *(f"{name},{CLASSES[label]}" for name, _, label in rows)])
    for name, content, label in rows:
        write(root / "folders" / CLASSES[label], name, content)
        write(root / "flat", name, content)
        write(root / "json" / "00000", name, content)
    (root / "flat" / "labels.csv").write_text(csv)
    (root / "json" / "dataset.json").write_text(
        json.dumps({"labels": [[f"00000/{name}", label] for name, label in table["labels"]]})
    )
    by_class = {f"{CLASSES[label]}/{name}": content for name, content, label in rows}
    flat = {name: content for name, content, _ in rows}
    for place, files in {
        "classes": by_class,
        "stylegan": flat | {"dataset.json": json.dumps(table).encode()},
        "samples": flat | {f"{name[:-4]}.cls": CLASSES[label].encode() for name, _, label in rows},
    }.items():
        (root / place).mkdir()
        (in_tar if place == "samples" else in_zip)(root / place, files)
    cells = [{"bytes": content, "path": name} for name, content, _ in rows]
    columns = {"image": cells, "label": [CLASSES[label] for label in LABELS]}
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "x.parquet")
    np.savez(root / "x.npz", arr_0=np.stack(IMAGES), arr_1=np.array(columns["label"]))
    files = ["folders", "flat", "json", "classes/x.zip", "stylegan/x.zip", "samples/x.tar.gz",
             "x.parquet", "x.npz"]  # fmt: skip
    return {name: str(root / name) for name in files}


def test_one_corpus_in_eight_forms_is_prepared_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = corpus(tmp_path)
    assert len(forms) == 8
    reports, prepared = {}, {}
    for i, (form, where) in enumerate(forms.items()):
        for command in (
            ["check", where, "--strict", "--workers", "0", "--out", str(tmp_path)],
            ["prepare", where, str(tmp_path / f"out{i}"), "--workers", "1"],
        ):
            with pytest.raises(SystemExit) as stop:
                main(command)
            assert stop.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        # All but the kind of file, its size, and what is said of places.
        kinds = ("formats: ", "as shards ", "notice: ", "12 rows in", "12 images", "1 files")
        reports[form] = [line for line in lines if not line.startswith(kinds)]
        reports[form] = [line for line in reports[form] if "GiB free" not in line]
        assert "12 images can be used, 0 images or labels cannot" in "\n".join(lines)
        shard = tmp_path / f"out{i}" / "shard-00000"
        stored, labels = np.load(shard / "stored.npy"), np.load(shard / "labels.npy")
        # Keys are paths; what the image itself is called comes last, without its suffix.
        keys = [key.rpartition("/")[2].partition(".")[0] for key in read_keys(shard)]
        order = np.argsort(keys)
        prepared[form] = ([keys[i] for i in order], labels[order].tolist(), stored[order].tolist())
    first = next(iter(forms))
    assert prepared[first][0] == [f"{i:08d}" for i in range(12)]
    assert prepared[first][1] == LABELS
    for form in forms:
        assert prepared[form] == prepared[first], form
        assert reports[form] == reports[first], form
