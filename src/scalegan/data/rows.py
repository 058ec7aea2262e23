"""A data set in memory: what a run of up to some ten thousand small pictures trains on."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from scalegan.data.sources import Source
from scalegan.errors import DataError
from scalegan.interfaces import Autoencoder, Batch, Images, Labels


@runtime_checkable
class Readable(Protocol):
    """Rows to train on, wherever they lie."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor) -> Batch:
        """The rows of these indices, in this order."""
        ...


class Pictures(NamedTuple):
    """Decoded pictures of one size with their labels."""

    images: Images
    labels: Labels
    class_names: list[str]
    is_grey: bool


def collect(source: Source) -> Pictures:
    """Decode a whole source.

    Raises:
        DataError: if it is empty, or a picture is not square or not of the size of the first.
    """
    items = list(source.items)
    if not items:
        raise DataError("the source holds no pictures")
    side = items[0].image.shape[0]
    for item in items:
        if item.image.shape[:2] != (side, side):
            height, width = item.image.shape[:2]
            raise DataError(
                f"picture `{item.key}` is {width}x{height}; expected {side}x{side}",
                "all pictures must be square and of one size",
            )
    arrays = [np.atleast_3d(item.image) for item in items]  # (H, W, 1 or 3)
    array = np.stack([np.broadcast_to(image, (side, side, 3)) for image in arrays])
    return Pictures(
        torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([item.label for item in items]),
        source.class_names,
        is_grey=bool((array == array[..., :1]).all()),
    )


@dataclass(frozen=True)
class Rows:
    """Encoded pictures, one a row."""

    stored: Tensor
    labels: Labels
    images: Images | None
    """Only where a teacher looks at them."""

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Tensor) -> Batch:
        """The rows of these indices, in this order."""
        images = None if self.images is None else self.images[indices]
        return Batch(self.stored[indices], self.labels[indices], images)


def encode(pictures: Pictures, autoencoder: Autoencoder, keep_images: bool) -> Rows:
    """Encode all pictures at once."""
    stored = autoencoder.encode(pictures.images)
    return Rows(stored, pictures.labels, pictures.images if keep_images else None)
