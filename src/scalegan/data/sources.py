"""Where labelled images come from: each source yields (key, image, label).

A source is a function of what follows its name and a colon (`npz:PATH`); keys are unique and the
order is stable. What cannot be read is listed with its reason and never ends the reading; what
makes the whole source meaningless is an error at once. `folders`, `archives` and `tables` hold the
other sources.
"""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

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


class Item(NamedTuple):
    """One labelled image."""

    key: str
    """Unique in its source, one line of printable text."""
    image: bytes | np.ndarray
    """An encoded file, or uint8 (H, W) or (H, W, 3)."""
    label: int
    """Index into the class names."""


class Problem(NamedTuple):
    """Something that is left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Source:
    """Labelled images and the names of their classes.

    `problems` and `notes` fill while `items` is read; `items` can be read once.
    """

    items: Iterator[Item]
    class_names: list[str]
    num_items: int | None = None
    """About how many there are, where that is known before reading them."""
    problems: list[Problem] = field(default_factory=list)
    """Images and labels that could not be read."""
    notes: list[str] = field(default_factory=list)
    """What was assumed about the source as a whole."""


def open_source(text: str, table: Mapping[str, Callable[[str], Source]]) -> Source:
    """The source that `NAME:WHERE`, `NAME` or a plain path stands for.

    A plain path is a folder with a folder per class, unless it ends in, or holds, something else:
    a labels file, parquet files, tar shards, a zip or an npz file.

    Args:
        table: sources by name.

    Raises:
        DataError: if there is none of that name and no such path, or the source refuses it.
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
    """The name of the source that reads a file or folder."""
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
    """A file's name as one line of valid UTF-8; different names stay different."""
    return re.sub(
        r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]",
        lambda match: match[0].encode("unicode_escape").decode("ascii"),
        name,
    )


def unique(items: Iterable[Item], problems: list[Problem]) -> Iterator[Item]:
    """Items whose key comes for the first time; the others become problems."""
    seen: set[str] = set()
    for item in items:
        if item.key in seen:
            problems.append(Problem(item.key, "the key is used twice; the first one is kept"))
            continue
        seen.add(item.key)
        yield item


def class_notices(class_names: Sequence[str], labels: Iterable[int]) -> list[str]:
    """What is odd about a class table and its images: one class, or classes without any."""
    if len(class_names) == 1:
        return ["there is only one class: a class-conditional network has nothing to learn from it"]
    counts = Counter(labels)
    empty = [name for i, name in enumerate(class_names) if not counts[i]]
    if not empty:
        return []
    some = ", ".join(f"`{name}`" for name in empty[:5]) + (", ..." if len(empty) > 5 else "")
    return [f"{len(empty):,} of {len(class_names):,} classes have no images: {some}"]


def digits(_: str = "") -> Source:
    """The 1,797 handwritten 8x8 digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(
            "the source `digits` needs scikit-learn, which is not installed",
            'pip install "scalegan[demo]"',
        ) from None
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
    items = (
        Item(f"{i:04d}", image, int(label))
        for i, (image, label) in enumerate(zip(images, data.target, strict=True))
    )
    return Source(items, [str(name) for name in data.target_names], len(images))


def npz(path: str) -> Source:
    """A NumPy archive: `arr_0` uint8 (N, H, W[, 3 or 1]) and `arr_1` class indices (N,).

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
    items = (Item(f"{i:08d}", images[i], int(labels[i])) for i in range(len(images)))
    return Source(items, [str(label) for label in range(largest + 1)], len(images))


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
