"""Images in parquet files, in the layout of Hugging Face `datasets`."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from scalegan.data.images import BadImage, Problem, check_bytes
from scalegan.data.labels import LABEL_COLUMNS, Classes
from scalegan.data.names import choose_split, composed, escape, hidden_part, split_of
from scalegan.data.sources import (
    DAMAGE,
    Row,
    Source,
    SourceImage,
    no_labels,
    problem_of,
    read_rows,
    split_options,
)
from scalegan.errors import DataError

ROWS_AT_ONCE = 64


class Columns(NamedTuple):
    """The two columns that matter, and what the schema says of the classes."""

    image: str
    is_struct: bool
    label: str | None
    class_names: list[str] | None


def parquet(where: str) -> Source:
    """Read parquet files with a column of encoded images and one of labels.

    The image column is a struct with `bytes` (or plain binary), the label column the one that the
    schema's metadata calls a ClassLabel, else one of a usual name. Class names come from that
    metadata, or from `dataset_info.json` beside the files. Keys are FILE/ROW.

    Args:
        where: a file, a pattern (`data/test-*.parquet`) or a folder, such as a local copy of a hub
            repository.

    Raises:
        DataError: if pyarrow is missing, or there is no file or column to read.
    """
    arrow = _pyarrow()
    where, options = split_options(where, ("split", "label"))
    notes, problems, passed_over = list[str](), list[Problem](), list[Problem]()
    paths = _find(where, options.split, notes, passed_over)
    files: list[tuple[Path, Any]] = []
    for path in paths:
        try:
            files.append((path, arrow.parquet.ParquetFile(path)))
        except (arrow.ArrowException, OSError) as error:
            problems.append(_unreadable(path, error))
    if not files:
        raise DataError(f"`{where}` is not a readable parquet file: {problems[0].reason}")
    columns = _columns(files[0][1].schema_arrow, files[0][0], options.label)
    classes = _classes(files, columns, where, notes, problems)
    count = sum(file.metadata.num_rows for _, file in files)
    stems = [path.stem for path in paths]
    is_clear = len(set(stems)) == len(stems)

    def rows() -> Iterator[Row]:
        for path, file in files:
            prefix = escape(path.stem if is_clear else str(path.with_suffix("")))
            row = 0
            try:
                for image, label in _rows(file, columns):
                    yield Row(f"{prefix}/{row:08d}", partial(_image, image), label)
                    row += 1
            except (arrow.ArrowException, KeyError, *DAMAGE) as error:
                problems.append(_unreadable(path, error, f" beyond row {row:,}"))

    def read() -> Iterator[SourceImage]:
        return read_rows(rows(), classes, problems, passed_over)

    return Source(read, classes.names, count, problems, notes, passed_over, f"`{where}`")


def _unreadable(path: Path, error: Exception, where: str = "") -> Problem:
    found = problem_of(escape(path.name), error)
    return found._replace(reason=found.reason.replace("cannot be read", f"cannot be read{where}"))


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            "parquet files need pyarrow, which is not installed", 'pip install "scalegan[parquet]"'
        ) from None
    return pyarrow


def _find(where: str, split: str, notes: list[str], passed_over: list[Problem]) -> list[Path]:
    """The files that are meant, in sorted order."""
    path = Path(where)
    if path.is_file():
        return [path]
    if not path.is_dir():
        paths = sorted(path.parent.glob(path.name)) if "*" in path.name else []
    else:
        found = sorted(file for file in path.rglob("*") if file.is_file())
        hidden = {part for p in found if (part := hidden_part(str(p.relative_to(path))))}
        reason = "hidden, or left by a system"
        passed_over += [Problem(escape(part), reason, "hidden") for part in sorted(hidden)]
        found = [p for p in found if not hidden_part(str(p.relative_to(path)))]
        paths = [p for p in found if p.suffix.lower() == ".parquet"]
        passed_over += [
            Problem(escape(str(p.relative_to(path))), "is not a parquet file", "passed over")
            for p in found
            if p not in paths and p.name != "dataset_info.json"
        ]
    if not paths:
        raise DataError(f"there are no parquet files at `{where}`")
    if path.is_dir():
        names = [p.name for p in paths]
        folders = [split_of(p.parent.name, "folder") if p.parent != path else "" for p in paths]
        splits = [split_of(p.name, "file") or at for p, at in zip(paths, folders, strict=True)]
        _, others = choose_split(where, names, splits, split, notes)
        lost = [p for p, found in zip(paths, splits, strict=True) if p.name in others]
        passed_over += [Problem(escape(str(p.relative_to(path))), "of another split", "other split")
                        for p in lost]  # fmt: skip
        paths = [p for p in paths if p not in lost]
    return paths


def _columns(schema: Any, path: Path, wanted: str) -> Columns:
    """Find the image and the label column of a schema."""
    features = _features(schema, path)
    kinds = {field.name: str(field.type) for field in schema}
    structs = [name for name, kind in kinds.items() if kind.startswith("struct<bytes: ")]
    plain = [name for name, kind in kinds.items() if kind in ("binary", "large_binary")]
    declared = [name for name in kinds if features.get(name, {}).get("_type") == "Image"]
    images = [name for name in declared if name in structs + plain] or structs or plain
    if len(images) != 1:
        raise DataError(
            f"`{path}` has {len(images)} columns of encoded images among {', '.join(kinds)}",
            "expected one, a struct with `bytes` as Hugging Face `datasets` writes it, or binary",
        )
    labels = [name for name in kinds if features.get(name, {}).get("_type") == "ClassLabel"]
    labels = labels or [name for name in kinds if name.lower() in LABEL_COLUMNS]
    if wanted:
        if wanted not in kinds:
            raise DataError(f"`{path}` has no column `{wanted}`; it has {', '.join(kinds)}")
        labels = [wanted]
    if len(labels) > 1:
        raise DataError(
            f"`{path}` has several columns of labels: {', '.join(labels)}",
            f"choose one with parquet:PATH?label={labels[0]}",
        )
    label = labels[0] if labels else None
    names = features.get(label, {}).get("names") if label else None
    if names is None and label and b"class_names" in (schema.metadata or {}):
        names = _json(schema.metadata[b"class_names"])
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    names = [escape(composed(name)) for name in names] if names and is_list else None
    return Columns(images[0], images[0] in structs, label, names)


def _features(schema: Any, path: Path) -> dict[str, Any]:
    """Hugging Face's description of the columns, from the file or from beside it."""
    info = _json((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = info.get("info", {}).get("features") if isinstance(info, dict) else None
    for folder in (path.parent, path.parent.parent):
        file = folder / "dataset_info.json"
        if not features and file.is_file():
            beside = _json(file.read_bytes())
            features = beside.get("features") if isinstance(beside, dict) else None
    good = features if isinstance(features, dict) else {}
    return {name: value for name, value in good.items() if isinstance(value, dict)}


def _json(data: bytes) -> Any:
    """A value from metadata; None if it is damaged, for it only helps."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def _classes(
    files: list[tuple[Path, Any]],
    columns: Columns,
    where: str,
    notes: list[str],
    problems: list[Problem],
) -> Classes:
    """The class table; without names in the schema the label column is read once for it."""
    if columns.label is None:
        notes.append(no_labels(where))
    if columns.label is None or columns.class_names:
        return Classes(names=columns.class_names or ["all"])
    arrow = _pyarrow()
    labels: list[Any] = []
    for path, file in files:
        try:
            labels += file.read(columns=[columns.label])[columns.label].unique().to_pylist()
        except (arrow.ArrowException, OSError, KeyError) as error:
            problems.append(_unreadable(path, error))
    return Classes(labels)


def _rows(file: Any, columns: Columns) -> Iterator[tuple[Any, Any]]:
    """(image, label as written), a few rows in memory at a time."""
    names = [columns.image] + ([columns.label] if columns.label else [])
    for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names):
        images = batch.column(columns.image)
        images = images.field("bytes") if columns.is_struct else images
        labels = batch.column(columns.label).to_pylist() if columns.label else [0] * len(batch)
        yield from zip(images, labels, strict=True)


def _image(value: Any) -> bytes:
    """The bytes of one cell."""
    buffer = value.as_buffer() if value.is_valid else None
    if buffer is None:
        raise BadImage(
            "has no bytes; an image outside the file is not looked for", "cannot be read"
        )
    check_bytes(buffer.size)
    return bytes(buffer)
