"""Where labelled pictures come from: each source yields (key, image, label).

A source is a function of what follows its name and a colon (`npz:PATH`); keys are unique and the
order is stable.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scalegan.errors import DataError


class Item(NamedTuple):
    """One labelled picture."""

    key: str
    image: np.ndarray
    """uint8 (H, W) or (H, W, 3)."""
    label: int


class Source(NamedTuple):
    """Labelled pictures and the names of their classes."""

    items: Iterator[Item]
    class_names: list[str]


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
    return Source(items, [str(name) for name in data.target_names])


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
    images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    items = (Item(f"{i:08d}", images[i], int(labels[i])) for i in range(len(images)))
    return Source(items, [str(label) for label in range(int(labels.max()) + 1)])


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
