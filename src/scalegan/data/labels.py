"""Labels as people write them - numbers or names, in CSV or JSON - become class indices."""

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from scalegan.data.images import BadImage
from scalegan.data.sources import MAX_CLASSES, escape
from scalegan.errors import DataError

FILE_COLUMNS = ("file", "file_name", "filename", "path", "image", "image_path", "key")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "cls")
WHOLE_NUMBER = re.compile(r"-?\d{1,18}(\.0*)?")  # tables write 3 as "3.0" beside a gap


class BadLabel(BadImage):
    """An image whose label cannot be used; the message is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "no usable label")


class Classes:
    """The table of a source's classes, which turns labels as written into class indices.

    Args:
        labels: all labels as written; decides what the classes are if no names are given: the
            numbers 0..largest if most labels are whole numbers, else the names in sorted order.
        names: the classes in order, where the source lists them.

    Raises:
        DataError: if there is no name and no label that can be read.
    """

    def __init__(self, labels: Iterable[Any] = (), names: list[str] | None = None) -> None:
        self.are_given = names is not None
        if names is None:
            written = [text for label in labels if (text := _text(label))]
            numbers = [int(float(t)) for t in written if WHOLE_NUMBER.fullmatch(t)]
            names = sorted(set(written))
            if 2 * len(numbers) > len(written):
                largest = max((n for n in numbers if n < MAX_CLASSES), default=-1)
                names = [str(i) for i in range(largest + 1)]
            if not names:
                raise DataError("no label can be read", "expected class numbers from 0, or names")
        self.names = names
        self.indices = {name: i for i, name in enumerate(self.names)}

    def index(self, label: Any) -> int:
        """Turn a label as written into its class index.

        Raises:
            BadLabel: if it is missing, out of range or unknown.
        """
        if isinstance(label, bool | list | dict):
            raise BadLabel(f"label `{escape(str(label)[:60])}` is neither a number nor a name")
        text = _text(label)
        if not text:
            raise BadLabel("has no label")
        is_index = self.are_given and isinstance(label, int)  # even of classes named by numbers
        if text in self.indices and not is_index:
            return self.indices[text]
        if not WHOLE_NUMBER.fullmatch(text):
            raise BadLabel(f"label `{text[:60]}` is not one of the {len(self.names)} classes")
        number = int(text.partition(".")[0])
        if not 0 <= number < len(self.names):
            raise BadLabel(f"label {number} is outside 0..{len(self.names) - 1}")
        return number


class LabelFile(NamedTuple):
    """The contents of a file of labels."""

    labels: list[tuple[str, Any]]
    """(name of the image, label as written), in the order of the file."""
    class_names: list[str] | None


def read_label_file(path: Path) -> LabelFile:
    """Read a file of labels in CSV, TSV, JSON or JSONL.

    CSV or TSV with a header that names a column for the file and one for the label, or without one:
    file, label. JSON: {"labels": [[file, label], ...]} as StyleGAN has it, a list of such pairs or
    of objects, or {file: label, ...}; "class_names" beside "labels" names the classes. JSONL: an
    object a line, as Hugging Face's `metadata.jsonl`.

    Raises:
        DataError: if it is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise DataError(f"there is no file of labels `{path}`") from None
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return LabelFile(_read_csv(text, path), None)
    if path.suffix.lower() == ".jsonl":
        lines = [line for line in text.splitlines() if line.strip()]
        return LabelFile([_pair(_parse_json(line, path), path) for line in lines], None)
    return parse_json_labels(text, path)


def parse_json_labels(text: str, path: Path) -> LabelFile:
    """Read labels from one JSON value; `read_label_file` lists the forms."""
    value, names = _parse_json(text, path), None
    if isinstance(value, dict):
        given = [value.pop(key) for key in ("class_names", "classes") if key in value]
        names = given[0] if given else None
        if not isinstance(value.get("labels", ""), str | int):  # else a file of that name
            value = value["labels"]
        if isinstance(value, dict):
            value = [list(pair) for pair in value.items()]
    if names is not None and not (
        isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    ):
        raise DataError(f"`class_names` of `{path}` is not a list of names")
    if value is None:  # StyleGAN's way to say: no labels
        return LabelFile([], names)
    if not isinstance(value, list):
        raise DataError(f"`{path}` holds no list of pairs of a file and its label")
    return LabelFile([_pair(entry, path) for entry in value], names)


def _parse_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{path}` is not JSON: {error}") from None


def _column(names: tuple[str, ...], columns: Iterable[str]) -> str:
    """The first of the names that is a column; empty if none is."""
    return next((name for name in names if name in columns), "")


def _pair(entry: Any, path: Path) -> tuple[str, Any]:
    """(file, label) of a pair or an object."""
    if isinstance(entry, dict):
        entry = [entry.get(_column(names, entry)) for names in (FILE_COLUMNS, LABEL_COLUMNS)]
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
        raise DataError(f"`{path}` holds {str(entry)[:60]!r}; expected a file and its label")
    return entry[0], entry[1]


def _read_csv(text: str, path: Path) -> list[tuple[str, str]]:
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise DataError(f"`{path}` is not CSV: {error}") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    file, label = _column(FILE_COLUMNS, header), _column(LABEL_COLUMNS, header)
    if file and label:
        places, rows = (header.index(file), header.index(label)), rows[1:]
    elif len(header) == 2:
        places = 0, 1
    else:
        raise DataError(
            f"`{path}` has no columns for file and label: {', '.join(header[:8]) or 'it is empty'}",
            f"expected a header with one of {', '.join(FILE_COLUMNS)} and one of "
            f"{', '.join(LABEL_COLUMNS)}",
        )
    cells = [[*row, *[""] * len(header)] for row in rows]  # a short row has no label
    return [(row[places[0]], row[places[1]]) for row in cells]


def _text(label: Any) -> str:
    """A label as text; empty if there is none."""
    if label is None or isinstance(label, bool | list | dict):
        return ""
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    text = escape(str(label).strip())
    return "" if text.lower() == "nan" else text
