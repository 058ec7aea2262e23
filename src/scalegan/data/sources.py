"""Sources of labeled images: folders, archives and tables, each read as (key, image, class).

A source is a function of what follows its name and a colon (`npz:PATH`); keys are unique and the
order is stable. What is there is an image, or listed with a reason as left out or passed over; what
makes the whole source meaningless is an error at once. `files` reads whatever holds files,
`parquet` rows of tables; `tables` names the sources.
"""

import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scalegan.data.images import BadImage, Decoded, Problem, check_size, decode
from scalegan.data.labels import DEFAULT_LABELS, Classes
from scalegan.data.names import escape, hidden_part, is_named_image, other_kind, printable
from scalegan.errors import DataError

BY_SUFFIX = {
    ".npz": "npz", ".zip": "zip", ".parquet": "parquet", ".csv": "flat", ".tsv": "flat",
    ".txt": "flat", ".json": "flat", ".jsonl": "flat", ".tar": "webdataset", ".tgz": "webdataset",
    ".gz": "webdataset",
}  # fmt: skip
# What reading a damaged file or member raises, of any kind of archive.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError,
          NotImplementedError, ValueError)  # fmt: skip


class SourceImage(NamedTuple):
    """A labeled image as its source holds it, before it is decoded."""

    key: str
    """Unique in its source, one line of printable text."""
    image: bytes | np.ndarray
    """An encoded file, or uint8 (H, W) or (H, W, 3)."""
    label: int
    """Index into the class names."""


@dataclass
class Source:
    """Labeled images and the names of their classes; each iteration reads from the first image on.

    `problems` and `notes` are complete once all images were read.
    """

    read: Callable[[], Iterable[SourceImage]]
    """Starts a reading, which may add to `problems` and `notes`."""
    class_names: list[str]
    num_images: int | None = None
    """About how many there are, where that is known before reading them."""
    problems: list[Problem] = field(default_factory=list)
    """Images and labels that could not be read."""
    notes: list[str] = field(default_factory=list)
    """What was assumed about the source as a whole."""
    passed_over: list[Problem] = field(default_factory=list)
    """Files that are no images, hidden, or of another split: nobody's loss, but listed."""
    name: str = ""
    """Where the images lie, in backticks, for messages."""

    def __post_init__(self) -> None:
        self._lists: list[list[Any]] = [self.problems, self.notes, self.passed_over]
        self._lengths = [len(found) for found in self._lists]

    def __iter__(self) -> Iterator[SourceImage]:
        for found, length in zip(self._lists, self._lengths, strict=True):
            del found[length:]  # of an earlier reading
        yield from self.read()
        others = [p for p in self.passed_over if p.kind == "passed over"]
        if others:
            self.notes.append(
                f"{len(others):,} files are no images by name and content and were passed over, "
                f"such as `{others[0].key}`"
            )


def open_source(text: str, table: Mapping[str, Callable[[str], Source]]) -> Source:
    """Open the source that `NAME:WHERE`, `NAME` or a plain path stands for.

    A plain path is a folder with a folder per class, unless it ends in, or holds, something else:
    a labels file, parquet files, tar shards, a zip or an npz file.

    Args:
        table: sources by name.
    """
    kind, colon, where = text.partition(":")
    path = Path(split_options(text)[0])
    if kind in table and (colon or not path.exists()):
        if not where and kind != "digits":
            raise DataError(f"the source `{kind}` needs a path", f"{kind}:PATH")
        return table[kind](where)
    if text and path.exists():
        return table[guess_kind(path)](text)
    raise DataError(
        f"`{text}` is neither a file nor a folder, nor a source's name",
        f"a path, or one of {', '.join(table)} with a colon and a path, as in npz:PATH",
    )


class Options(NamedTuple):
    """What the user adds to a source, as in `PATH?split=val&label=breed`; empty = not said."""

    split: str = ""
    """The split to read; "none" reads all folders as classes."""
    labels: str = ""
    """A file of labels in or beside the source, or "folders", or "beside" for .cls and .json."""
    label: str = ""
    """The column of labels."""
    file: str = ""
    """The column that names the images."""
    encoding: str = ""
    """Of a file of labels, and of names in a zip that does not say it."""


def split_options(text: str, takes: Sequence[str] = Options._fields) -> tuple[str, Options]:
    """Split the path of a source from the options after it.

    Args:
        takes: options that have an effect on the source.

    Raises:
        DataError: if an option is unknown, has no effect or no value.
    """
    found = re.fullmatch(rf"(.*?)\?((?:{'|'.join(Options._fields)})=.*)", text, re.DOTALL)
    if not found or Path(text).exists():
        return text, Options()
    pairs = [part.partition("=") for part in found[2].split("&")]
    for name, _, value in pairs:
        if name not in takes or not value:
            raise DataError(
                f"`{name}` is no option of this source, or has no value",
                f"expected some of {', '.join(takes)}, as in PATH?split=val&label=breed"
                if takes
                else "it has none",
            )
    return found[1], Options(**{name: value for name, _, value in pairs})


def guess_kind(path: Path) -> str:
    """Find which kind of source a file or folder is, from its name or its contents."""
    if not path.is_dir():
        if path.suffix.lower() not in BY_SUFFIX:
            raise DataError(
                f"`{path}` is no kind of file that images are read from",
                f"expected a folder or one of {', '.join(BY_SUFFIX)}",
            )
        return BY_SUFFIX[path.suffix.lower()]
    if any((path / name).is_file() for name in DEFAULT_LABELS) and any(
        is_named_image(file.name) for file in path.iterdir()
    ):
        return "folder"
    for kind, patterns in {
        "parquet": ("*.parquet", "data/*.parquet"),
        "webdataset": ("*.tar", "*.tar.gz", "*.tgz"),
    }.items():
        found = [file for pattern in patterns for file in path.glob(pattern)]
        if any(not hidden_part(file.name) for file in found):
            return kind
    return "folder"


def decode_each(
    images: Iterable[SourceImage],
    side: int = 0,
    allow_upscaling: bool = False,
    must_be_square: bool = True,
) -> Iterator[tuple[SourceImage, Decoded | Problem]]:
    """Decode one image of a source after the other; those that cannot be used become problems.

    Args:
        side: P, that images are to be cropped to; 0 = they are left as they are.
        allow_upscaling: whether images whose short side is below `side` can be used.
        must_be_square: whether images of other shapes are problems where `side` is 0.
    """
    for image in images:
        found: Decoded | Problem
        try:
            found = decode(image.image)
            if side or must_be_square:
                check_size(found.image.size, side, allow_upscaling)
        except BadImage as error:
            found = error.problem(image.key)
        yield image, found


class Row(NamedTuple):
    """An image of a source before it is read."""

    key: str
    read: Callable[[], bytes | np.ndarray | None]
    """Reads it; None if it turns out to be no image by name and content."""
    label: Any
    """As written in the source."""


def read_rows(
    rows: Iterable[Row], classes: Classes, problems: list[Problem], passed_over: list[Problem]
) -> Iterator[SourceImage]:
    """Read row by row; each becomes an image or one line of what was left out or passed over."""
    seen: set[str] = set()
    for key, read, label in rows:
        if key in seen:
            reason = "the key is used twice; the first one is kept"
            problems.append(Problem(key, reason, "used twice"))
            continue
        seen.add(key)
        try:
            image = read()
            if image is None:
                passed_over.append(Problem(key, other_kind(key), "passed over"))
            else:
                yield SourceImage(key, image, classes.index(label))
        except (BadImage, *DAMAGE) as error:
            problems.append(problem_of(key, error))


def problem_of(key: str, error: Exception) -> Problem:
    """Say what keeps an image of this key from being read."""
    if isinstance(error, BadImage):
        return error.problem(key)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    reason = escape((reason or type(error).__name__).splitlines()[0])
    return Problem(key, f"cannot be read: {reason}", "cannot be read")


def refuse_empty(source: Source, problems: Sequence[Problem]) -> DataError:
    """Say why a source holds no image that can be used.

    Args:
        problems: all that was left out.
    """
    lost = [*problems, *(p for p in source.passed_over if p.kind != "hidden")]
    first = ""
    if lost:
        first = f"; the first of {len(lost):,} left out or passed over: `{lost[0].key}`, "
        first += lost[0].reason
    return DataError(f"{source.name or 'the source'} holds no image that can be used{first}")


def class_notices(class_names: Sequence[str], labels: Iterable[int]) -> list[str]:
    """Sentences on odd classes: a single one, ones without images, ones that differ by case alone.

    Args:
        labels: of all images; each index may also come once only.
    """
    if len(class_names) == 1:
        return ["there is only one class: a class-conditional network has nothing to learn from it"]
    notices = []
    counts = Counter(labels)
    empty = [name for i, name in enumerate(class_names) if not counts[i]]
    if empty:
        notices.append(f"{len(empty):,} of {len(class_names):,} classes have no images: ")
        notices[0] += ", ".join(f"`{name}`" for name in empty[:5])
        notices[0] += ", ..." if len(empty) > 5 else ""
    first: dict[str, str] = {}
    for name in class_names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            notices.append(f"the classes `{other}` and `{name}` differ by case alone")
    return notices


def digits(_: str = "") -> Source:
    """Read the 1,797 digits of 8x8 that scikit-learn ships (UCI, Alpaydin and Kaynak 1998)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(
            "the source `digits` needs scikit-learn, which is not installed",
            'pip install "scalegan[demo]"',
        ) from None
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)  # stored as 0..16

    def read() -> Iterator[SourceImage]:
        for i, (image, label) in enumerate(zip(images, data.target, strict=True)):
            yield SourceImage(f"{i:04d}", image, int(label))

    return Source(read, [str(name) for name in data.target_names], len(images))


def npz(where: str) -> Source:
    """Read a NumPy archive: `arr_0` uint8 (N, H, W[, 3 or 1]) and `arr_1` labels (N,), if any.

    This is what `scalegan sample --out NAME.npz` writes.

    Raises:
        DataError: if the file, an array or a shape is not as described.
    """
    path, _ = split_options(where, ())
    images, labels = _read_npz(Path(path))
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"`arr_0` of `{path}` is {images.dtype} with {images.ndim} axes; expected uint8 "
            "(N, H, W) or (N, H, W, 3)"
        )
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        raise DataError(f"`arr_0` of `{path}` has {images.shape[3]} channels; expected 1 or 3")
    if labels is not None and labels.shape != images.shape[:1]:
        raise DataError(
            f"`arr_1` of `{path}` has shape {labels.shape}; expected a label for each of the "
            f"{len(images)} images"
        )
    if not len(images):
        raise DataError(f"`{path}` holds no images")
    images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    notes = [] if labels is not None else [no_labels(path)]
    written = ["all"] * len(images) if labels is None else labels.tolist()
    rows = [
        Row(f"{i:08d}", partial(images.__getitem__, i), label) for i, label in enumerate(written)
    ]
    try:
        classes = Classes(written)
    except DataError as error:
        raise DataError(f"`arr_1` of `{path}`: {error}", error.hint) from None
    problems: list[Problem] = []
    read = partial(read_rows, rows, classes, problems, [])
    return Source(read, classes.names, len(images), problems, notes, name=f"`{path}`")


def no_labels(path: str | Path) -> str:
    """The notice of a source without labels."""
    return f"`{printable(str(path))}` has no labels: all images are one class"


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if not path.is_file():
        raise DataError(f"there is no file `{path}`", "the source is npz:PATH")
    if not zipfile.is_zipfile(path):
        raise DataError(f"`{path}` is not a readable .npz of plain arrays: it is not a zip archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["arr_0"], archive.get("arr_1")
    except KeyError:
        raise DataError(
            f"`{path}` lacks the array arr_0; it has {', '.join(archive.files) or 'none'}"
        ) from None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"`{path}` is not a readable .npz of plain arrays: {error}") from None
