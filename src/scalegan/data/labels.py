"""Labels as people write them - numbers or names, in CSV or JSON - become class indices."""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from scalegan.data.images import BadImage
from scalegan.data.names import composed, escape, is_named_image
from scalegan.errors import DataError

DEFAULT_LABELS = ("labels.csv", "labels.json", "labels.jsonl", "labels.tsv", "metadata.csv",
                  "metadata.jsonl", "dataset.json")  # fmt: skip
"""Names under which labels lie at the top of a source."""
MAX_CLASSES = 100_000
"""Larger class numbers are taken for mistakes: a network has a vector for every class."""

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
    class_names: list[str] | None = None
    notes: tuple[str, ...] = ()
    """What was assumed about the file."""
    has_labels: bool = True
    """Whether there is a column of labels at all."""


class Columns(NamedTuple):
    """What the user says of a file of labels; empty = its contents tell."""

    file: str = ""
    label: str = ""
    encoding: str = ""


def decode_text(data: bytes, name: str, encoding: str = "") -> str:
    """Decode text: by its byte-order mark, else as UTF-8; other bytes become lone surrogates.

    Raises:
        DataError: if it is not in the encoding that is given, or UTF-16 without its mark.
    """
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
             codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
    marked = next((kind for mark, kind in marks.items() if data.startswith(mark)), "")
    try:
        if encoding or marked:
            return data.decode(encoding or marked)
    except (ValueError, LookupError) as error:
        raise DataError(f"`{name}` cannot be decoded: {error}") from None
    text = data.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise DataError(
            f"`{name}` holds null characters, as UTF-16 does, and no byte-order mark",
            "save it as UTF-8, or name its encoding, as in PATH?encoding=utf-16-le",
        )
    return text


def refuse_undecoded(texts: Iterable[Any], name: str) -> None:
    """Refuse a text that is not UTF-8 and show how two encodings read it."""
    for text in texts:
        if isinstance(text, str) and re.search("[\udc80-\udcff]", text):
            raw = text.encode("utf-8", "surrogateescape")
            readings = [f"`{escape(raw.decode(kind, 'replace'))}` in {kind}"
                        for kind in ("cp1252", "cp1251")]  # fmt: skip
            raise DataError(
                f"`{name}` is not UTF-8: `{escape(text)}` may be {' or '.join(readings)}",
                "save it as UTF-8, or name its encoding, as in PATH?encoding=cp1252",
            )


def read_label_file(
    data: bytes,
    name: str,
    columns: Columns = Columns(),  # noqa: B008
    is_image: Callable[[str], bool] = lambda name: False,
) -> LabelFile:
    """Read a file of labels in CSV, TSV, JSON or JSONL.

    CSV, TSV or the like with any header or none: the column of files is the one that names images,
    the column of labels the one with a usual name, else the only other one. JSON: {"labels":
    [[file, label], ...]} as StyleGAN has it, a list of such pairs or of objects, or {file: label,
    ...}; "class_names" beside "labels" names the classes. JSONL: an object a line, as Hugging
    Face's `metadata.jsonl`.

    Args:
        columns: what the user says of it.
        is_image: whether a name is that of an image of the source.

    Raises:
        DataError: if it is none of these, or can be read in two ways.
    """
    text = decode_text(data, name, columns.encoding)
    if name.lower().endswith(".jsonl"):
        lines = (line for line in text.splitlines() if line.strip())
        return _read_entries([_parse_json(line, name) for line in lines], name, columns, is_image)
    if not name.lower().endswith(".json"):
        return _read_csv(text, name, columns, is_image)
    value, names = _parse_json(text, name), None
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
        raise DataError(f"`class_names` of `{name}` is not a list of names")
    if not isinstance(value, list | None):
        raise DataError(f"`{name}` holds no list of pairs of a file and its label")
    # None is StyleGAN's way to say: no labels.
    return _read_entries(value or [], name, columns, is_image)._replace(class_names=names)


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{name}` is not JSON: {error}") from None


def _read_entries(
    entries: list[Any], name: str, columns: Columns, is_image: Callable[[str], bool]
) -> LabelFile:
    """Read pairs of a file and its label, or objects, which are a table with a header."""
    if entries and all(isinstance(entry, dict) for entry in entries):
        header = list(dict.fromkeys(key for entry in entries for key in entry))
        rows = [[entry.get(key) for key in header] for entry in entries]
        return _read_table(header, rows, name, columns, is_image)
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise DataError(f"`{name}` holds {str(entry)[:60]!r}; expected a file and its label")
    return LabelFile([(file, label) for file, label in entries])


def _read_csv(text: str, name: str, columns: Columns, is_image: Callable[[str], bool]) -> LabelFile:
    """Read separated values; the separator is the one that makes cells of the images' names."""
    said = re.match(r"sep=(.)\r?\n", text)  # Excel's own way to say it
    text = text[said.end() :] if said else text
    first = text.partition("\n")[0]
    # Bars and blanks only where they make cells of names: a header may hold them.
    separators = said[1] if said else [*sorted("\t;,", key=first.count, reverse=True), "|", " "]

    def rows(separator: str, count: int | None = None) -> list[list[str]]:
        lines = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True
        )
        return list(itertools.islice((row for row in lines if any(map(str.strip, row))), count))

    try:
        found = {one: _images_by_column(rows(one, 1000), is_image) for one in separators}
        table = rows(max(separators, key=lambda one: max(found[one], default=0)))
    except csv.Error as error:
        raise DataError(f"`{name}` is not CSV: {error}") from None
    if not table:
        raise DataError(f"`{name}` has no columns for file and label: it is empty")
    # A short row has no label.
    return _read_table(None, table, name, columns, is_image)


def _images_by_column(rows: list[list[Any]], is_image: Callable[[str], bool]) -> list[int]:
    """How many cells of each column are names of images."""
    columns = itertools.zip_longest(*rows)
    return [sum(isinstance(cell, str) and is_image(cell) for cell in column) for column in columns]


def _read_table(
    header: list[str] | None,
    rows: list[list[Any]],
    name: str,
    columns: Columns,
    is_image: Callable[[str], bool],
) -> LabelFile:
    """Find the columns of files and of labels; without a header the first row may be one."""
    width = max(map(len, [header or [], *rows]))
    rows = [[*row, *[""] * (width - len(row))] for row in rows]
    names = [str(cell).strip().lower() for cell in header or rows[0]]
    files = [names.index(known) for known in FILE_COLUMNS if known in names]
    labels = [names.index(known) for known in LABEL_COLUMNS if known in names]
    counts = _images_by_column(rows, is_image)
    if columns.file:
        files = [_named(columns.file, names, name)]
    elif any(counts):
        files = [max(range(width), key=lambda i: (counts[i], i in files))]
    elif not files and header is None and width == 2:
        files = [0]
    notes: tuple[str, ...] = ()
    if header is None and files:
        cell = rows[0][files[0]]
        is_known = columns.file or columns.label or (labels and names[files[0]] in FILE_COLUMNS)
        if not is_image(cell) and (is_known or not is_named_image(cell)):
            rows = rows[1:]
            if not is_known and any(counts):
                some = ", ".join(f"`{escape(cell)}`" for cell in names)
                notes = (f"the first row of `{name}`, {some}, is taken for its header",)
        else:
            names, labels = [""] * width, []
    if not files:
        raise DataError(
            f"`{name}` has no columns for file and label: {escape(', '.join(names[:8]))}",
            f"expected a header with one of {', '.join(FILE_COLUMNS)} and one of "
            f"{', '.join(LABEL_COLUMNS)}, or PATH?file=COLUMN&label=COLUMN",
        )
    others = [i for i in range(width) if i != files[0]]
    labels = [i for i in labels if i != files[0]]
    if columns.label:
        labels = [_named(columns.label, names, name)]
    elif not labels and len(others) == 1 and (header is None or any(counts)):
        labels = others
        num_kinds = len({str(row[others[0]]) for row in rows})
        if len(rows) > 8 and 2 * num_kinds > len(rows):
            raise DataError(
                f"`{name}` has no column of a usual name for labels, and its column "
                f"`{names[others[0]]}` would make {num_kinds:,} classes of {len(rows):,} images",
                f"if so, PATH?label={names[others[0]]}; PATH?labels=folders leaves the file aside",
            )
    if not labels and header is None and others:
        raise DataError(
            f"`{name}` has no column of a usual name for labels: "
            f"{escape(', '.join(names[:8])) if any(names) else f'{width} columns, no header'}",
            "choose one with PATH?label=COLUMN, or give it a header",
        )
    if len(labels) > 1 and not _agree(rows, labels):
        first, second = (f"`{names[i]}` ({escape(str(rows[0][i]))})" for i in labels[:2])
        raise DataError(
            f"`{name}` has several columns of labels that make different classes: {first} and "
            f"{second} in its first row",
            f"choose one with PATH?label={names[labels[0]]}",
        )
    pairs = [(str(row[files[0]] or ""), row[labels[0]] if labels else None) for row in rows]
    return LabelFile(pairs, None, notes, has_labels=bool(labels))


def _named(column: str, names: list[str], file: str) -> int:
    """The place of a column by its name."""
    if column.strip().lower() not in names:
        raise DataError(f"`{file}` has no column `{column}`; it has {', '.join(names[:8])}")
    return names.index(column.strip().lower())


def _agree(rows: list[list[Any]], columns: list[int]) -> bool:
    """Whether columns differ in how they call the classes alone."""
    kinds = [[str(row[i]).strip() for i in columns] for row in rows]
    sizes = {len(set(column)) for column in zip(*kinds, strict=True)}
    return sizes == {len(set(map(tuple, kinds)))}


def _text(label: Any) -> str:
    """A label as text; empty if there is none."""
    if label is None or isinstance(label, bool | list | dict):
        return ""
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    text = escape(composed(str(label).strip()))
    return "" if text.lower() == "nan" else text
