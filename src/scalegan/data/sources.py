"""Sources of labeled images: folders, archives and tables, each read as (key, image, class).

A source is a function of what follows its name and a colon (`npz:PATH`); keys are unique and the
order is stable. What cannot be read is listed with its reason and never ends the reading; what
makes the whole source meaningless is an error at once. `folders`, `archives` and `parquet` hold the
other sources, `tables` their names.
"""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scalegan.data.images import BadImage, Decoded, Problem, check_size, decode
from scalegan.errors import DataError

DEFAULT_LABELS = ("labels.csv", "labels.json", "labels.jsonl", "labels.tsv", "metadata.csv",
                  "metadata.jsonl", "dataset.json")  # fmt: skip
"""Names under which labels lie beside the images of one flat folder."""
MAX_CLASSES = 100_000
"""Larger class numbers are taken for mistakes: a network has a vector for every class."""
BY_SUFFIX = {
    ".npz": "npz", ".zip": "zip", ".parquet": "parquet", ".csv": "flat", ".tsv": "flat",
    ".json": "flat", ".jsonl": "flat", ".tar": "webdataset", ".tgz": "webdataset",
    ".gz": "webdataset",
}  # fmt: skip


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

    def __post_init__(self) -> None:
        self._num_at_opening = len(self.problems), len(self.notes)

    def __iter__(self) -> Iterator[SourceImage]:
        num_problems, num_notes = self._num_at_opening
        del self.problems[num_problems:], self.notes[num_notes:]  # of an earlier reading
        return iter(self.read())


def open_source(text: str, table: Mapping[str, Callable[[str], Source]]) -> Source:
    """Open the source that `NAME:WHERE`, `NAME` or a plain path stands for.

    A plain path is a folder with a folder per class, unless it ends in, or holds, something else:
    a labels file, parquet files, tar shards, a zip or an npz file.

    Args:
        table: sources by name.
    """
    kind, colon, where = text.partition(":")
    if kind in table and (colon or not Path(text).exists()):
        if not where and kind != "digits":
            raise DataError(f"the source `{kind}` needs a path", f"{kind}:PATH")
        return table[kind](where)
    if text and Path(text).exists():
        return table[guess_kind(Path(text))](text)
    raise DataError(
        f"`{text}` is neither a file nor a folder, nor a source's name",
        f"a path, or one of {', '.join(table)} with a colon and a path, as in npz:PATH",
    )


def guess_kind(path: Path) -> str:
    """Find which kind of source a file or folder is, from its name or its contents."""
    if not path.is_dir():
        if path.suffix.lower() not in BY_SUFFIX:
            raise DataError(
                f"`{path}` is no kind of file that images are read from",
                f"expected a folder or one of {', '.join(BY_SUFFIX)}",
            )
        return BY_SUFFIX[path.suffix.lower()]
    has_folders = any(f.is_dir() and not f.name.startswith(".") for f in path.iterdir())
    if not has_folders and any((path / name).is_file() for name in DEFAULT_LABELS):
        return "flat"
    if any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
        return "parquet"
    return "webdataset" if any(path.glob("*.tar")) else "folder"


def escape(name: str) -> str:
    """Write a file's name as one line of valid UTF-8; different names stay different.

    Control characters, line breaks, lone surrogates and the backslash become escapes of Python.
    """
    return re.sub(
        r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]",
        lambda match: match[0].encode("unicode_escape").decode("ascii"),
        name,
    )


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


def unique(images: Iterable[SourceImage], problems: list[Problem]) -> Iterator[SourceImage]:
    """Yield the images whose key comes for the first time; the others become problems."""
    seen: set[str] = set()
    for image in images:
        if image.key in seen:
            reason = "the key is used twice; the first one is kept"
            problems.append(Problem(image.key, reason, "used twice"))
        else:
            seen.add(image.key)
            yield image


def class_notices(class_names: Sequence[str], labels: Iterable[int]) -> list[str]:
    """Sentences on classes that training can make little of: a single one, or ones without images.

    Args:
        labels: of all images; each index may also come once only.
    """
    if len(class_names) == 1:
        return ["there is only one class: a class-conditional network has nothing to learn from it"]
    counts = Counter(labels)
    empty = [name for i, name in enumerate(class_names) if not counts[i]]
    if not empty:
        return []
    some = ", ".join(f"`{name}`" for name in empty[:5]) + (", ..." if len(empty) > 5 else "")
    return [f"{len(empty):,} of {len(class_names):,} classes have no images: {some}"]


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


def npz(path: str) -> Source:
    """Read a NumPy archive: `arr_0` uint8 (N, H, W[, 3 or 1]) and `arr_1` class indices (N,).

    This is what `scalegan sample --out NAME.npz` writes.

    Raises:
        DataError: if the file, an array, a shape or a label is not as described.
    """
    images, labels = _read_npz(Path(path))
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"`arr_0` of `{path}` is {images.dtype} with {images.ndim} axes; expected uint8 "
            "(N, H, W) or (N, H, W, 3)"
        )
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        raise DataError(f"`arr_0` of `{path}` has {images.shape[3]} channels; expected 1 or 3")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"`arr_1` of `{path}` has shape {labels.shape} and type {labels.dtype}; expected one "
            f"integer for each of the {len(images)} images"
        )
    if len(images) == 0 or labels.min() < 0:
        raise DataError(f"`{path}` holds no images or a negative label")
    if (largest := int(labels.max())) >= MAX_CLASSES:
        raise DataError(
            f"`arr_1` of `{path}` holds label {largest:,}; expected class numbers from 0, below "
            f"{MAX_CLASSES:,}",
            "number the classes anew, as in numpy.unique(labels, return_inverse=True)[1]",
        )
    images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images

    def read() -> Iterator[SourceImage]:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield SourceImage(f"{i:08d}", image, int(label))

    return Source(read, [str(label) for label in range(largest + 1)], len(images))


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise DataError(f"there is no file `{path}`", "the source is npz:PATH")
    if not zipfile.is_zipfile(path):
        raise DataError(f"`{path}` is not a readable .npz of plain arrays: it is not a zip archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["arr_0"], archive["arr_1"]
    except KeyError as error:
        raise DataError(f"`{path}` lacks an array: {error.args[0]}") from None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"`{path}` is not a readable .npz of plain arrays: {error}") from None
