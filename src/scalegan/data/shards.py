"""Shards, prepared images on disk: a few large memory-mapped files, all of an image in one row.

    OUT/manifest.json       origin, crop, autoencoder, classes; rows and digests of every shard
    OUT/quarantine.jsonl    images that were left out, each with its reason
    OUT/shard-00000/
        stored.npy          (rows, ...): what the autoencoder made of the image
        labels.npy          int64 (rows,)
        keys.txt            a line per row
        images.bin          the images as PNG, end to end; only if they were to be kept
        offsets.npy         int64 (images + 1,): where each begins
        quarantine.jsonl    what was left out of this shard
        manifest.json       SHA-256 digests of the files above

Where mirrors were asked for, rows come in pairs: the image, then its mirror image, which shares
the image's bytes in `images.bin`. A shard gets its name only once it is complete.
"""

import hashlib
import io
import json
import math
import mmap
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scalegan.data.images import decode_png
from scalegan.data.manifest import AGAIN, check_manifest, read_manifest, short
from scalegan.data.sources import SourceImage
from scalegan.errors import DataError
from scalegan.interfaces import Batch, Images, Labels
from scalegan.runtime.files import atomic_folder, damage, digest

QUARANTINE = "quarantine.jsonl"
MIRRORED = "#mirrored"
"""What is appended to the key of a mirror image's row."""
HEADER = ("source", "size", "allow_upscaling", "mirror", "keep_images", "shard_images",
          "autoencoder", "class_names")  # fmt: skip
"""What a second call must have in common with the first."""


def shard_name(index: int) -> str:
    """The name of the folder that holds a shard."""
    return f"shard-{index:05d}"


class EncodedImage(NamedTuple):
    """An image as a shard holds it, or why it is left out."""

    key: str
    label: int
    stored: np.ndarray | None = None
    """(1 or 2, ...): its row, or its row and that of its mirror image."""
    png: bytes = b""
    """Only if images are kept."""
    reason: str = ""
    """Why it is left out; empty if it is not."""


def write_shard(
    path: Path, shape: Sequence[int], dtype: str, keep_images: bool, images: Iterable[EncodedImage]
) -> None:
    """Write one shard, image by image; its folder appears only once all are written.

    Args:
        shape: of one stored row.
        dtype: of the stored rows.
    """
    labels: list[int] = []
    keys: list[str] = []
    left_out: list[dict[str, Any]] = []
    offsets = [0]
    with atomic_folder(path) as draft:
        kept = (draft / "images.bin").open("wb") if keep_images else nullcontext()
        with (draft / "stored.npy").open("wb") as rows, kept as file:
            rows.write(_header(shape, dtype, 0))
            for key, label, stored, png, reason in images:
                if stored is None:
                    left_out.append({"key": key, "label": label, "reason": reason})
                    continue
                assert stored.shape[1:] == tuple(shape) and stored.dtype == dtype
                rows.write(np.ascontiguousarray(stored).data)
                labels += [label] * len(stored)
                keys += [key, key + MIRRORED][: len(stored)]
                offsets.append(offsets[-1] + len(png))
                if file:
                    file.write(png)
            rows.seek(0)
            rows.write(_header(shape, dtype, len(labels)))
        np.save(draft / "labels.npy", np.asarray(labels, dtype=np.int64))
        text = "".join(f"{key}\n" for key in keys)
        (draft / "keys.txt").write_text(text, encoding="utf-8", newline="\n")
        if keep_images:
            np.save(draft / "offsets.npy", np.asarray(offsets, dtype=np.int64))
        (draft / QUARANTINE).write_text("".join(map(json_line, left_out)))


def _header(shape: Sequence[int], dtype: str, num_rows: int) -> bytes:
    """The header of an .npy file; NumPy pads it, so that it may be replaced in place."""
    buffer = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    np.lib.format.write_array_header_1_0(buffer, about | {"shape": (num_rows, *shape)})
    return buffer.getvalue()


def json_line(value: Any) -> str:
    return json.dumps(value) + "\n"


def read_keys(shard: Path) -> list[str]:
    """Read the keys of a shard's rows."""
    return (shard / "keys.txt").read_text(encoding="utf-8").split("\n")[:-1]


def read_left_out(shard: Path) -> list[dict[str, Any]]:
    """Read what was left out of a shard: key, label and reason of each image."""
    return [json.loads(line) for line in (shard / QUARANTINE).read_text().splitlines()]


def refuse_other_preparation(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on in a folder whose manifest differs in what decides its rows."""
    for name in HEADER:
        then, asked = _comparable(before[name]), _comparable(now[name])
        if then != asked:
            raise DataError(
                f"`{path}` holds another preparation: its `{name}` is {short(then)}, not "
                f"{short(asked)}",
                "choose another folder, or delete that one",
            )


def _comparable(value: Any) -> Any:
    """The same weights may lie elsewhere the second time."""
    if isinstance(value, dict):
        return {k: v for k, v in value["config"].items() if k != "path"} | value["identity"]
    return value


def find_sound(out: Path, tell: Callable[[str], None]) -> list[int]:
    """Find the numbers of the shards that match their digests; remove the others, with a notice."""
    sound = []
    for path in sorted(out.glob("shard-*")):
        if problem := damage(path):
            tell(f"notice: `{path}` is damaged and made again: {problem}")
            shutil.rmtree(path)
        else:
            sound.append(int(path.name.removeprefix("shard-")))
    return sound


def refuse_changed_source(shard: Path, images: Iterable[SourceImage], mirror: bool) -> int:
    """Refuse a shard that was made of other images, by keys and labels; return their number."""
    copies = 2 if mirror else 1
    labels = np.load(shard / "labels.npy")[::copies].tolist()
    rows = deque(zip(read_keys(shard)[::copies], labels, strict=True))
    left_out = deque((line["key"], line["label"]) for line in read_left_out(shard))
    hint = "choose another folder, or delete that one"
    count = 0
    changed = f"the source has changed since `{shard}` was made"
    for image in images:
        count += 1
        for expected in (rows, left_out):
            if expected and expected[0] == (image.key, image.label):
                expected.popleft()
                break
        else:
            what = f"image `{image.key}` of class {image.label} was not there"
            raise DataError(f"{changed}: {what}", hint)
    for key, _ in [*rows, *left_out]:
        raise DataError(f"{changed}: image `{key}` is gone", hint)
    return count


class _Rows:
    """The rows of an .npy file in memory: its pages are read when they are touched.

    Rows of a page and more are announced before they are copied. Without, the kernel fetches a row
    only when it is touched, one at a time and with 128 KiB around it; with, it fetches the rows of
    a batch together and nothing else (measured: docs/experiments.md).
    """

    def __init__(self, path: Path) -> None:
        mapped = _map(path)
        self.memory: Any = mapped.base  # the `mmap` below the array
        self.offset = mapped.offset % mmap.ALLOCATIONGRANULARITY
        self.rows = np.asarray(mapped)
        self.row_bytes = mapped.dtype.itemsize * math.prod(mapped.shape[1:])

    def announce(self, row: int) -> None:
        """Have a row fetched from the disk without waiting for it."""
        if self.row_bytes >= mmap.PAGESIZE:
            start = self.offset + row * self.row_bytes
            page = start - start % mmap.PAGESIZE
            self.memory.madvise(mmap.MADV_WILLNEED, page, start - page + self.row_bytes)


class Shards:
    """A data set that is read from the disk: the rows of a folder of shards.

    Attributes:
        manifest: of the folder.
        labels: of all rows; they are few bytes and stay in memory.
        copies: rows per image: 2 where its mirror image follows it.
        fingerprint: a digest of all rows, by the digests of their files.

    Args:
        path: what `scalegan prepare` wrote.
        with_images: whether batches hold images; they are decoded on each reading.

    Raises:
        DataError: if it is incomplete, or a file is missing or not of the size it should have.
            A flipped bit is found by `verify` alone.
    """

    is_in_memory = False

    def __init__(self, path: Path, with_images: bool = False) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        check_manifest(path, self.manifest)
        if not self.manifest["complete"]:
            raise DataError(
                f"`{path}` is not complete: preparation was stopped",
                "run the same `scalegan prepare` again: it goes on where it stopped",
            )
        if with_images and not self.manifest["keep_images"]:
            raise DataError(
                f"`{path}` holds no images, which a teacher or a classifier looks at",
                "prepare with --keep-images",
            )
        digests = [shard["digests"] for shard in self.manifest["shards"]]
        self.fingerprint = hashlib.sha256(json_line(digests).encode()).hexdigest()
        self.with_images = with_images
        self.copies = 2 if self.manifest["mirror"] else 1
        self.shape, self.dtype = tuple(self.manifest["row"]["shape"]), self.manifest["row"]["dtype"]
        opened = [self._open(about) for about in self.manifest["shards"]]
        self.stored = [shard[0] for shard in opened]
        self.images = [shard[2] for shard in opened]
        self.offsets = [shard[3] for shard in opened]
        self.labels: Labels = torch.from_numpy(np.concatenate([shard[1] for shard in opened]))
        self.ends = np.cumsum([len(stored.rows) for stored in self.stored])

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Tensor) -> Batch:
        """Copy the rows of these indices, in this order, and decode their images if wanted.

        Raises:
            DataError: if a kept image cannot be decoded.
        """
        shards = np.searchsorted(self.ends, indices.numpy(), side="right")
        starts = self.ends[shards] - [len(self.stored[shard].rows) for shard in shards]
        places = list(zip(shards.tolist(), (indices.numpy() - starts).tolist(), strict=True))
        stored = np.empty((len(places), *self.shape), self.dtype)
        for shard, row in places:
            self.stored[shard].announce(row)
        # Row by row is as fast as grouping by shard: a row is far larger than a turn of this loop.
        for i, (shard, row) in enumerate(places):
            stored[i] = self.stored[shard].rows[row]
        images = self._decode(places) if self.with_images else None
        return Batch(torch.from_numpy(stored), self.labels[indices], images)

    def to(self, device: torch.device) -> "Shards":
        """The same rows: they stay on the disk, and the loader moves what it has read."""
        return self

    def verify(self, part: int = 0, parts: int = 1, num_threads: int = 4) -> None:
        """Compare the files that are read with their digests, which finds a flipped bit.

        Args:
            part: every `parts`-th shard is looked at, from this one on: ranks share the work.
            num_threads: files hashed at a time.

        Raises:
            DataError: for the first file that differs.
        """
        unread = set() if self.with_images else {"images.bin", "offsets.npy"}
        files = [
            (self.path / shard["name"] / name, expected)
            for shard in self.manifest["shards"][part::parts]
            for name, expected in shard["digests"].items()
            if name not in unread
        ]
        with ThreadPoolExecutor(num_threads) as pool:
            for (file, expected), found in zip(
                files, pool.map(lambda pair: _digest(pair[0]), files), strict=True
            ):
                if found != expected:
                    what = f"`{file.name}` of shard `{file.parent.name}` in `{self.path}`"
                    raise DataError(f"{what} does not match its digest", AGAIN)

    def _decode(self, places: list[tuple[int, int]]) -> Images:
        side = self.manifest["side"]
        decoded = np.empty((len(places), 3, side, side), np.uint8)
        for i, (shard, row) in enumerate(places):
            number, is_mirrored = divmod(row, self.copies)
            start, end = self.offsets[shard][number : number + 2].tolist()
            try:
                image = decode_png(self.images[shard][start:end].tobytes(), side)
                decoded[i] = image[..., ::-1] if is_mirrored else image
            except DataError as error:
                where = f"shard `{self.manifest['shards'][shard]['name']}` in `{self.path}`"
                message = f"the image of row {row} of {where} cannot be read: {error}"
                raise DataError(message, AGAIN) from None
        return torch.from_numpy(decoded)

    def _open(self, about: dict[str, Any]) -> tuple[_Rows, np.ndarray, np.ndarray, np.ndarray]:
        """Map one shard: stored, labels, images, offsets; the last two may be empty."""
        name, num_rows = about["name"], about["rows"]
        folder = self.path / name
        try:
            mapped, labels = _Rows(folder / "stored.npy"), np.array(_map(folder / "labels.npy"))
            stored = mapped.rows
            images = offsets = np.empty(0, np.uint8)
            if self.with_images:
                offsets = np.array(_map(folder / "offsets.npy"))
                if (folder / "images.bin").stat().st_size:
                    images = np.asarray(np.memmap(folder / "images.bin", mode="r"))
        except FileNotFoundError as error:
            raise self._defect(name, f"`{Path(error.filename).name}` is missing") from None
        except (ValueError, EOFError, TokenError, RecursionError, OverflowError) as error:
            what = short(str(error))[1:-1]
            raise self._defect(name, f"a file is cut short or damaged ({what})") from None
        if len(stored) != num_rows:
            found = f"{len(stored):,} rows but the manifest says {num_rows:,}"
            raise DataError(f"shard `{name}` in `{self.path}` holds {found}", AGAIN)
        if stored.shape[1:] != self.shape or stored.dtype != self.dtype:
            found = f"{stored.dtype} {stored.shape[1:]}"
            raise self._defect(name, f"rows are {found}; expected {self.dtype} {self.shape}")
        num_classes = len(self.manifest["class_names"])
        if labels.shape != (num_rows,) or labels.dtype != np.int64:
            raise self._defect(name, f"there are {len(labels):,} labels for {num_rows:,} rows")
        if num_rows and not 0 <= labels.min() <= labels.max() < num_classes:
            raise self._defect(name, f"labels are not all within 0..{num_classes - 1}")
        if self.with_images:
            expected = num_rows // self.copies + 1
            if offsets.shape != (expected,) or offsets[-1] != len(images):
                raise self._defect(name, "`images.bin` does not end where `offsets.npy` says")
        return mapped, labels, images, offsets

    def _defect(self, name: str, what: str) -> DataError:
        return DataError(f"shard `{name}` in `{self.path}` is not usable: {what}", AGAIN)


def _map(path: Path) -> np.memmap:
    """A plain array in memory; its header is believed only as far as the file reaches.

    Raises:
        ValueError: if it is none.
    """
    with np.errstate(over="ignore"):  # of the size that a header claims
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.memmap):
        found.close()
        raise ValueError("an archive, not an array")
    if not found.ndim:
        raise ValueError("a number, not an array")
    return found


def _digest(path: Path) -> str:
    if path.exists() and not path.is_file():
        return "no file"
    try:
        return digest(path)
    except FileNotFoundError:
        return "missing"
