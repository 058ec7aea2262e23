"""Data sets in memory: what a run of up to some ten thousand small images trains on."""

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from scalegan.data.images import Problem
from scalegan.data.sources import Source, class_notices, decode_each, refuse_empty
from scalegan.errors import ConfigError, DataError
from scalegan.interfaces import Autoencoder, Batch, Images, Labels
from scalegan.runtime.progress import follow
from scalegan.runtime.rng import stream


@runtime_checkable
class ReadsRows(Protocol):
    """Rows that are read by their indices: all that a loader needs."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor) -> Batch:
        """Read the rows of these indices, in this order."""
        ...


@runtime_checkable
class Dataset(ReadsRows, Protocol):
    """Encoded images with their labels, wherever they lie: what a run trains on."""

    labels: Labels
    """Of all rows, without reading them."""
    copies: int
    """Rows per image: 2 where its mirror image follows it."""
    fingerprint: str
    """A digest of the images and labels that it was made of."""
    is_in_memory: bool
    """Whether reading needs no threads, because nothing is read from the disk."""

    def to(self, device: torch.device) -> "Dataset":
        """The same rows; on the device if they are in memory, where they lie if not."""
        ...


class LabeledImages(NamedTuple):
    """Decoded images of one size with their labels."""

    images: Images
    labels: Labels
    class_names: list[str]
    is_gray: bool
    notes: tuple[str, ...] = ()
    """What was left out or assumed."""

    @property
    def fingerprint(self) -> str:
        """A digest of the decoded images and their labels."""
        found = hashlib.sha256()
        for tensor in (self.images, self.labels):
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()


def read_into_memory(
    source: Source, size: int = 0, is_shown: bool = True, hint: str = "--data.size 64"
) -> LabeledImages:
    """Decode a whole source; images that cannot be read are left out and counted in a note.

    Args:
        size: side to crop to; 0: all images must be square and of one size.
        is_shown: whether a long wait shows its progress.
        hint: what the caller's size looks like.

    Raises:
        DataError: if nothing can be read, or an image is of another size and none is given.
    """
    arrays: list[np.ndarray] = []
    labels: list[int] = []
    bad: list[Problem] = []
    odd: list[tuple[str, str]] = []
    hint = f"all images must be square and of one size; a size such as {hint} crops them"
    images = follow(source, source.num_images, "images", is_shown)
    for image, found in decode_each(images, size):
        if isinstance(found, Problem):
            if found.kind == "wrong size" and not size:
                raise DataError(f"image `{image.key}` {found.reason}", hint)
            bad.append(found)
            continue
        array = found.pixels(size)
        if arrays and array.shape != arrays[0].shape:
            side, expected = array.shape[-1], arrays[0].shape[-1]
            message = f"image `{image.key}` is {side}x{side}; expected {expected}x{expected}"
            raise DataError(message, hint)
        odd += [(image.key, note) for note in found.notes]
        arrays.append(array)
        labels.append(image.label)
    bad = [*source.problems, *bad]
    if not arrays:
        raise refuse_empty(source, bad)
    notes = [*source.notes]
    if bad:
        notes.append(
            f"{len(bad):,} images or labels cannot be used and are left out, such as "
            f"`{bad[0].key}`: {bad[0].reason}; `scalegan check` lists them all"
        )
    if odd:
        notes.append(
            f"{len(odd):,} images are odd, such as `{odd[0][0]}`: {odd[0][1]}; `scalegan check` "
            "lists them all"
        )
    notes += class_notices(source.class_names, labels)
    stacked = np.stack(arrays)  # (N, 3, P, P)
    return LabeledImages(
        torch.from_numpy(stacked),
        torch.tensor(labels),
        source.class_names,
        is_gray=bool((stacked == stacked[:, :1]).all()),
        notes=tuple(notes),
    )


@dataclass
class Rows:
    """Encoded images in memory, one a row."""

    stored: Tensor
    labels: Labels
    images: Images | None
    """Only where a teacher needs them."""
    fingerprint: str = ""
    """Of the decoded images and their labels."""
    copies: int = 1
    is_in_memory = True

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Tensor) -> Batch:
        """Copy the rows of these indices, in this order."""
        images = None if self.images is None else self.images[indices]
        return Batch(self.stored[indices], self.labels[indices], images)

    def to(self, device: torch.device) -> "Rows":
        """The same rows on a device: small data lives where the networks do."""
        images = None if self.images is None else self.images.to(device)
        stored, labels = self.stored.to(device), self.labels.to(device)
        return replace(self, stored=stored, labels=labels, images=images)


def encode_rows(images: LabeledImages, autoencoder: Autoencoder, keep_images: bool) -> Rows:
    """Encode all images at once."""
    stored = autoencoder.encode(images.images)
    kept = images.images if keep_images else None
    return Rows(stored, images.labels, kept, images.fingerprint)


class Subset:
    """Some rows of another data set, which are read from there."""

    def __init__(self, whole: Dataset, indices: Tensor) -> None:
        self.whole, self.indices = whole, indices
        self.labels = whole.labels[indices]
        self.copies, self.fingerprint = whole.copies, whole.fingerprint
        self.is_in_memory = whole.is_in_memory

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Tensor) -> Batch:
        """Read the rows of these indices into the subset, in this order."""
        return self.whole.read(self.indices[indices])

    def to(self, device: torch.device) -> "Subset":
        """The same rows of the whole on the device, if it is in memory."""
        return Subset(self.whole.to(device), self.indices)


def hold_out(rows: Dataset, count: int, seed: int) -> tuple[Dataset, Batch]:
    """Split off some images, drawn from (seed, "held out"), and leave the other rows to train on.

    A mirror image is held out with its image.

    Returns:
        The rows to train on, and the first row of each image that is held out.

    Raises:
        ConfigError: if nothing is left to train on.
    """
    copies = rows.copies
    num_images = len(rows) // copies
    if count >= num_images:
        raise ConfigError(
            f"`data.held_out` is {count} of {num_images} images", "hold out fewer of them"
        )
    drawn = torch.randperm(num_images, generator=stream(seed, "held out"))
    rest = drawn[count:].sort().values[:, None] * copies + torch.arange(copies)
    return Subset(rows, rest.flatten()), rows.read(drawn[:count] * copies)
