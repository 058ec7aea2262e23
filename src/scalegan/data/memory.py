"""A data set in memory: what a run of up to some ten thousand small images trains on."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from scalegan.data.images import BadImage, NotSquare, load
from scalegan.data.sources import Problem, Source, class_notices
from scalegan.errors import ConfigError, DataError
from scalegan.interfaces import Autoencoder, Batch, Images, Labels
from scalegan.runtime.progress import follow
from scalegan.runtime.rng import stream


@runtime_checkable
class Readable(Protocol):
    """Rows to train on, wherever they lie."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor) -> Batch:
        """The rows of these indices, in this order."""
        ...


@runtime_checkable
class Labeled(Readable, Protocol):
    """Rows whose labels are known without reading them."""

    @property
    def labels(self) -> Labels:
        """Of all rows."""
        ...


class LabeledImages(NamedTuple):
    """Decoded images of one size with their labels."""

    images: Images
    labels: Labels
    class_names: list[str]
    is_gray: bool
    notes: tuple[str, ...] = ()
    """What was left out or assumed."""


def collect(
    source: Source, size: int = 0, is_shown: bool = True, hint: str = "--data.size 64"
) -> LabeledImages:
    """Decode a whole source; images that cannot be read are left out and counted in a note.

    Args:
        size: side to crop to; 0: all images must be square and of one size.
        is_shown: whether a long wait shows its progress.
        hint: what the caller's size looks like.

    Raises:
        DataError: if nothing can be read, or a image is of another size and none is given.
    """
    arrays: list[np.ndarray] = []
    labels: list[int] = []
    bad: list[Problem] = []
    hint = f"all images must be square and of one size; a size such as {hint} crops them"
    for item in follow(source.items, source.num_items, "images", is_shown):
        try:
            array = load(item.image, size or None)
        except NotSquare as error:
            raise DataError(f"image `{item.key}` {error}", hint) from None
        except BadImage as error:
            bad.append(Problem(item.key, str(error)))
            continue
        if arrays and array.shape != arrays[0].shape:
            side, expected = array.shape[-1], arrays[0].shape[-1]
            message = f"image `{item.key}` is {side}x{side}; expected {expected}x{expected}"
            raise DataError(message, hint)
        arrays.append(array)
        labels.append(item.label)
    bad = [*source.problems, *bad]
    if not arrays:
        first = f"; the first of {len(bad):,} that were left out: {bad[0].reason}" if bad else ""
        raise DataError(f"the source holds no images{first}")
    notes = [*source.notes]
    if bad:
        notes.append(
            f"{len(bad):,} images or labels cannot be used and are left out, such as "
            f"`{bad[0].key}`: {bad[0].reason}; `scalegan check` lists them all"
        )
    notes += class_notices(source.class_names, labels)
    images = np.stack(arrays)  # (N, 3, P, P)
    return LabeledImages(
        torch.from_numpy(images),
        torch.tensor(labels),
        source.class_names,
        is_gray=bool((images == images[:, :1]).all()),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class Rows:
    """Encoded images, one a row."""

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


def encode(images: LabeledImages, autoencoder: Autoencoder, keep_images: bool) -> Rows:
    """Encode all images at once."""
    stored = autoencoder.encode(images.images)
    return Rows(stored, images.labels, images.images if keep_images else None)


@dataclass(frozen=True)
class Part:
    """Some rows of others."""

    rows: Labeled
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Labels:
        return self.rows.labels[self.indices]

    def read(self, indices: Tensor) -> Batch:
        return self.rows.read(self.indices[indices])


def hold_out(rows: Labeled, count: int, seed: int) -> tuple[Labeled, Batch]:
    """Rows to train on, and some images drawn from (seed, "held out") that are not among them.

    A mirror image is held out with its image.

    Raises:
        ConfigError: if nothing is left to train on.
    """
    copies = getattr(rows, "copies", 1)
    num_images = len(rows) // copies
    if count >= num_images:
        raise ConfigError(
            f"`data.held_out` is {count} of {num_images} images", "hold out fewer of them"
        )
    drawn = torch.randperm(num_images, generator=stream(seed, "held out"))
    kept = drawn[count:].sort().values[:, None] * copies + torch.arange(copies)
    held_out = rows.read(drawn[:count] * copies)
    if isinstance(rows, Rows):
        batch = rows.read(kept.flatten())
        return Rows(batch.stored, batch.labels, batch.images), held_out
    return Part(rows, kept.flatten()), held_out
