"""Large arrays in .npz files, read and written row by row: memory does not grow with the file.

The layout for images is ADM's (arXiv 2105.05233): `arr_0` uint8 (N, H, W, 3) and, if there are
labels, `arr_1` (N,).
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scalegan.errors import DataError
from scalegan.interfaces import Images, Labels

IMAGES, LABELS = "arr_0", "arr_1"
DAMAGE = (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError)


class Header(NamedTuple):
    """Shape and type of an array in an .npz file, before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def headers(path: Path) -> dict[str, Header]:
    """Read the shapes and types of the arrays in an .npz file, by name."""
    if not path.is_file():
        raise DataError(f"there is no file `{path}`")
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for name in archive.namelist():
                with archive.open(name) as file:
                    found[name.removesuffix(".npy")] = _header(file)
            return found
    except DAMAGE as error:
        raise DataError(f"`{path}` is not a readable .npz of plain arrays: {error}") from None


def read_images(path: Path, count: int) -> Iterator[Images]:
    """Read the images of an .npz file, its `arr_0`, in batches of `count`.

    Raises:
        DataError: if it is missing, not of images, or damaged.
    """
    about = headers(path).get(IMAGES)
    if about is None or about.dtype != np.uint8 or len(about.shape) not in (3, 4):
        raise DataError(f"`{path}` lacks `{IMAGES}`, uint8 (N, H, W, 3)")
    channels = about.shape[3] if len(about.shape) == 4 else 1
    if channels not in (1, 3) or about.shape[1] != about.shape[2]:
        raise DataError(
            f"`{IMAGES}` of `{path}` has shape {about.shape}; expected squares of 1 or 3 channels"
        )
    row = int(np.prod(about.shape[1:]))
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES}.npy") as file:
            _header(file)
            for first in range(0, about.shape[0], count):
                num = min(count, about.shape[0] - first)
                data = file.read(num * row)
                if len(data) != num * row:
                    raise EOFError("it ends too early")
                array = np.frombuffer(bytearray(data), np.uint8)
                images = torch.from_numpy(array.reshape(num, *about.shape[1:3], channels))
                yield images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1).contiguous()
    except DAMAGE as error:
        raise DataError(f"`{IMAGES}` of `{path}` cannot be read: {error}") from None


def read_labels(path: Path, count: int) -> Labels | None:
    """Read the labels of an .npz file, its `arr_1`, one per image; None if there are none.

    Raises:
        DataError: if they are not whole numbers from 0, one per image.
    """
    if LABELS not in headers(path):
        return None
    with np.load(path, allow_pickle=False) as archive:
        labels = archive[LABELS]
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(
            f"`{LABELS}` of `{path}` is {labels.dtype} {labels.shape}; expected one class index "
            f"from 0 for each of {count:,} images"
        )
    return torch.from_numpy(labels.astype(np.int64))


class ArrayWriter:
    """Writes `count` images to an .npz file as they come (`arr_0`), then their labels (`arr_1`)."""

    def __init__(self, path: Path, count: int, side: int) -> None:
        self.archive = zipfile.ZipFile(path, "w")
        self.left = count
        self.file = self.archive.open(f"{IMAGES}.npy", "w", force_zip64=True)
        about = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
        np.lib.format.write_array_header_1_0(self.file, about)

    def append(self, images: Images) -> None:
        """Write the next images."""
        self.left -= len(images)
        self.file.write(images.permute(0, 2, 3, 1).contiguous().numpy().data)

    def close(self, labels: Labels) -> None:
        """Write the labels and end the file.

        Raises:
            DataError: if not as many images came as were announced.
        """
        self.file.close()
        with self.archive, self.archive.open(f"{LABELS}.npy", "w") as file:
            np.lib.format.write_array(file, labels.numpy())
        if self.left:
            raise DataError(f"{self.left:,} images fewer came than were announced")


def _header(file: Any) -> Header:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the array format")
    shape, is_fortran, dtype = read(file)
    if is_fortran and len(shape) > 1:
        raise ValueError("an array in Fortran order")
    return Header(shape, dtype)
