"""From a source of pictures to shards: decoded, cropped, encoded, written; by several processes.

What is written depends on the source and the settings alone, not on the number of processes nor on
how often the work was interrupted: shard k holds pictures k * M to (k + 1) * M - 1 of the source's
order, less those left out, and pictures are encoded in batches that are cut by the same rule.
"""

import fcntl
import itertools
import multiprocessing
import os
import platform
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scalegan import __version__
from scalegan.data import images, shards
from scalegan.data.shards import Writer, shard_name
from scalegan.data.sources import Item, Source
from scalegan.errors import ConfigError, DataError
from scalegan.registry import AUTOENCODERS, SOURCES
from scalegan.runtime.files import (
    MANIFEST,
    atomic_file,
    clear_drafts,
    damage,
    read_json,
    write_json,
)
from scalegan.runtime.log import PictureProgress
from scalegan.settings import AutoencoderConfig

CROP = "center crop as in ADM (arXiv 2105.05233): halved by boxes, then bicubic"
BATCH_SIZE = 16
"""Pictures decoded and encoded at a time; part of what decides the last bits of a latent."""
HEADER = ("source", "size", "channels", "side", "mirror", "keep_images", "shard_pictures",
          "autoencoder", "class_names")  # fmt: skip
"""What a second call must have in common with the first."""


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes a row: all that a worker needs to know."""

    autoencoder: AutoencoderConfig
    channels: int
    side: int
    size: int
    """Side to crop to; 0 = pictures are square and of one size already."""
    mirror: bool
    keep_images: bool


@dataclass(frozen=True)
class Summary:
    """What a preparation did."""

    rows: int
    left_out: int
    num_shards: int
    num_made: int
    """Shards made by this call; the others were there."""


class Encoded(NamedTuple):
    """What became of a batch of pictures, those that could be read."""

    stored: np.ndarray
    """(copies * pictures, ...): a picture, its mirror image, the next picture ..."""
    pictures: list[bytes]
    reasons: list[str]
    """Per picture of the batch, why it was left out; empty if it was not."""


class Task(NamedTuple):
    """Pictures of one shard to encode together."""

    shard: int
    items: list[Item]
    reasons: list[str]


def prepare(
    source: str,
    out: Path,
    size: int = 0,
    autoencoder: AutoencoderConfig | None = None,
    *,
    workers: int = 0,
    shard_rows: int = 10_000,
    mirror: bool = False,
    keep_images: bool = False,
    strict: bool = False,
    tell: Callable[[str], None] = print,
) -> Summary:
    """Prepare a source, or go on where an earlier call stopped.

    Worker processes import the main module anew: a script that calls this needs the usual
    `if __name__ == "__main__":`.

    Args:
        source: as `data.source` has it.
        out: the folder of the shards; created if need be.
        size: side to crop to; 0 = pictures are square and of one size already.
        autoencoder: None = pixels.
        workers: processes; 0 = one per usable core; 1 = this one alone.
        shard_rows: rows of a shard, less those left out.
        mirror: whether every picture's mirror image is a row of its own.
        keep_images: whether the pictures themselves are kept, for a teacher or a judge.
        strict: end at the first picture that cannot be used.
        tell: where sentences go.

    Raises:
        DataError: if the source cannot be read, `out` holds another preparation, the disk is too
            small or, under `strict`, a picture is bad.
    """
    config = autoencoder or AutoencoderConfig()
    opened = open_source(source)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out), ExitStack() as stack:
        clear_drafts(out)
        recipe, header, png_bytes = describe(
            source, out, opened, Recipe(config, 0, 0, size, mirror, keep_images), shard_rows, tell
        )
        kept = find_sound(out, tell)
        if header.get("complete") and len(kept) == len(header["shards"]):
            tell(f"`{out}` is complete: {header['rows']:,} rows in {len(kept)} shards")
            return Summary(header["rows"], header["left_out"], len(kept), 0)
        if kept:
            tell(f"going on: {len(kept)} complete shards are kept")
        count = len(opened.items) if isinstance(opened.items, Sized) else None
        estimate_disk(out, header, png_bytes, count, tell)
        workers = workers or len(os.sched_getaffinity(0))
        encode = start_workers(recipe, workers, stack)
        progress = stack.enter_context(PictureProgress(count))
        tasks = cut(out, opened, header, kept, progress.skip)
        # Two batches a worker are enough to keep all busy while a finished one is written.
        results = encode_all(tasks, encode, 2 * workers if workers > 1 else 0)
        num_made = 0
        for shard, part in itertools.groupby(results, key=lambda result: result[0].shard):
            write_shard(out / shard_name(shard), header, part, strict, progress.advance)
            num_made += 1
    return conclude(out, header, num_made, tell)


def open_source(source: str) -> Source:
    """The source of a name such as npz:PATH.

    Raises:
        ConfigError: if there is none of that name.
        DataError: if it cannot be read.
    """
    kind, _, where = source.partition(":")
    if kind not in SOURCES:
        raise ConfigError(
            f"the source is `{source}`; expected one of: {', '.join(SOURCES)}",
            "a path follows the name and a colon, as in npz:PATH",
        )
    return SOURCES[kind](where)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a second process from preparing into the same folder."""
    descriptor = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(
            f"another process is preparing `{out}`", "wait for it, or end it and start again"
        ) from None
    finally:
        os.close(descriptor)


def describe(
    source: str,
    out: Path,
    opened: Source,
    recipe: Recipe,
    shard_rows: int,
    tell: Callable[[str], None],
) -> tuple[Recipe, dict[str, Any], float]:
    """Find out what the pictures are; write it into `out`, or compare it with what is there.

    Returns:
        The recipe with channels and side; the manifest; bytes of a picture as PNG.
    """
    before = shards.read_manifest(out) if (out / MANIFEST).is_file() else None
    if before is None and any(out.iterdir()):
        raise DataError(
            f"`{out}` is not empty and holds no preparation", "choose a new or an empty folder"
        )
    same = before is not None and (before["source"], before["size"]) == (source, recipe.size)
    known = before["channels"] if same and before else 0
    channels, side, png_bytes = look(open_source(source), recipe, known)
    recipe = Recipe(**{**vars(recipe), "channels": channels, "side": side})
    encoder = AUTOENCODERS[recipe.autoencoder.kind](channels, side)
    stored = encoder.encode(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    copies = 2 if recipe.mirror else 1
    header = {
        "format": shards.FORMAT,
        "complete": False,
        "source": source,
        "size": recipe.size,
        "crop": CROP if recipe.size else "none",
        "channels": channels,
        "side": side,
        "mirror": recipe.mirror,
        "keep_images": recipe.keep_images,
        "shard_pictures": max(1, shard_rows // copies),
        "autoencoder": {
            "config": asdict(recipe.autoencoder),
            "identity": encoder.identity(),
            "shape": list(encoder.shape),
        },
        "row": {"shape": list(stored.shape[1:]), "dtype": str(stored.cpu().numpy().dtype)},
        "class_names": opened.class_names,
        "versions": versions(),
    }
    if before is None:
        write_manifest(out, header)
        return recipe, header, png_bytes
    for name in HEADER:
        then, now = _comparable(before[name]), _comparable(header[name])
        if then != now:
            raise DataError(
                f"`{out}` holds another preparation: its `{name}` is {_short(then)}, not "
                f"{_short(now)}",
                "choose another folder, or delete that one",
            )
    for name, then in before["versions"].items():
        if then != header["versions"].get(name):
            tell(f"notice: begun with {name} {then}, going on with {header['versions'].get(name)}")
    return recipe, before, png_bytes


def look(source: Source, recipe: Recipe, channels: int) -> tuple[int, int, float]:
    """Channels (1 if all pictures are grey), side, and bytes of a picture as PNG.

    A set with color in it shows at the first colored picture; a grey one is read to its end.
    """
    sizes: list[int] = []
    side = recipe.size
    for item in source.items:
        try:
            picture = images.load(item.image, recipe.size or None)
        except images.BadPicture:
            continue
        side = side or picture.shape[-1]
        if recipe.keep_images and len(sizes) < BATCH_SIZE:
            sizes.append(len(images.encode_png(picture)))
        if not channels and (picture != picture[:1]).any():
            channels = 3
        if channels and (len(sizes) == BATCH_SIZE or not recipe.keep_images):
            break
    if not side:
        raise DataError("the source holds no picture that can be used")
    return channels or 1, side, float(np.mean(sizes)) if sizes else 0.0


def versions() -> dict[str, str]:
    """What may decide the last bit of a row."""
    import PIL

    return {
        "scalegan": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "machine": platform.machine(),
    }


def _comparable(value: Any) -> Any:
    """The same weights may lie elsewhere the second time."""
    if isinstance(value, dict) and "identity" in value:
        return {k: v for k, v in value["config"].items() if k != "path"} | value["identity"]
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    with atomic_file(out / MANIFEST) as draft:
        write_json(draft, manifest)


def find_sound(out: Path, tell: Callable[[str], None]) -> list[int]:
    """Shards that are there and match their digests; damaged ones are removed, aloud."""
    sound = []
    for path in sorted(out.glob("shard-*")):
        if problem := damage(path):
            tell(f"notice: `{path}` is damaged and made again: {problem}")
            shutil.rmtree(path)
        else:
            sound.append(int(path.name.removeprefix("shard-")))
    return sound


def estimate_disk(
    out: Path,
    header: dict[str, Any],
    png_bytes: float,
    count: int | None,
    tell: Callable[[str], None],
) -> None:
    """Say how much will be written, and refuse what cannot fit."""
    row, copies = header["row"], 2 if header["mirror"] else 1
    per_picture = copies * int(np.prod(row["shape"])) * np.dtype(row["dtype"]).itemsize + png_bytes
    free = shutil.disk_usage(out).free
    shape = "x".join(map(str, row["shape"]))
    about = f"{copies} row(s) of {shape} {row['dtype']} per picture, {per_picture / 2**10:,.1f} KiB"
    if count is None:
        tell(f"{about}; {free / 2**30:,.1f} GiB free")
        return
    made = sum(file.stat().st_size for file in out.glob("shard-*/*"))
    total = count * per_picture
    tell(
        f"{count:,} pictures, {about}: about {total / 2**30:,.2f} GiB; {free / 2**30:,.1f} GiB free"
    )
    if total - made > free:
        raise DataError(
            f"the shards need about {(total - made) / 2**30:,.1f} GiB more, but only "
            f"{free / 2**30:,.1f} GiB are free on the disk of `{out}`",
            "make room, choose another disk, or leave --keep-images out",
        )


def cut(
    out: Path,
    opened: Source,
    header: dict[str, Any],
    kept: Sequence[int],
    skip: Callable[[int], None],
) -> Iterator[Task]:
    """The work that is left, in order; pictures of shards that are there are only compared.

    Raises:
        DataError: if the source is not what the shards that are there were made of.
    """
    items, num_classes = iter(opened.items), len(header["class_names"])
    seen: set[str] = set()
    for shard in itertools.count():
        part = itertools.islice(items, header["shard_pictures"])
        if shard in kept:
            skip(compare(part, out / shard_name(shard), header, seen))
            continue
        num_pictures = 0
        while batch := list(itertools.islice(part, BATCH_SIZE)):
            num_pictures += len(batch)
            yield Task(shard, batch, [problem(item, num_classes, seen) for item in batch])
        if num_pictures < header["shard_pictures"] and shard >= max(kept, default=-1):
            return


def problem(item: Item, num_classes: int, seen: set[str]) -> str:
    """Why a picture cannot be a row, before it is looked at; empty if it can."""
    if item.key in seen:
        return "its key is taken by an earlier picture"
    seen.add(item.key)
    if "\n" in item.key:
        return "its key has a line break"
    if not 0 <= item.label < num_classes:
        return f"its label {item.label} is outside 0..{num_classes - 1}"
    return ""


def compare(items: Iterator[Item], shard: Path, header: dict[str, Any], seen: set[str]) -> int:
    """Check that a shard was made of these pictures, by their keys and labels; return how many."""
    copies = 2 if header["mirror"] else 1
    labels = np.load(shard / "labels.npy")[::copies].tolist()
    rows = iter(zip(shards.read_keys(shard)[::copies], labels, strict=True))
    left_out = iter([(line["key"], line["label"]) for line in shards.read_left_out(shard)])
    row, missing, count = next(rows, None), next(left_out, None), 0
    for item in items:
        count += 1
        seen.add(item.key)
        found = (item.key, item.label)
        # A key that is there twice was left out the second time, so that a row goes first.
        if found == row:
            row = next(rows, None)
        elif found == missing:
            missing = next(left_out, None)
        else:
            raise _changed(shard, f"picture `{item.key}` of class {item.label} is not in it")
    if row or missing:
        raise _changed(shard, f"picture `{(row or missing or ('',))[0]}` is no longer there")
    return count


def _changed(shard: Path, what: str) -> DataError:
    return DataError(
        f"the source is not the one that `{shard}` was made of: {what}",
        "choose another folder, or delete that one",
    )


class Encoder:
    """Decodes, crops and encodes a batch of pictures, in a worker or in this process."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        kind = recipe.autoencoder.kind
        self.autoencoder = AUTOENCODERS[kind](recipe.channels, recipe.side)

    def __call__(self, task: Task) -> Encoded:
        recipe, reasons, good = self.recipe, list(task.reasons), []
        for i, item in enumerate(task.items):
            try:
                if not reasons[i]:
                    good.append(self._load(item))
            except images.BadPicture as error:
                reasons[i] = str(error)
        if not good:
            return Encoded(np.empty(0), [], reasons)
        pictures = [images.encode_png(image) for image in good] if recipe.keep_images else []
        if recipe.mirror:
            good = [copy for image in good for copy in (image, image[..., ::-1])]
        with torch.no_grad():
            stored = self.autoencoder.encode(torch.from_numpy(np.stack(good)))
        return Encoded(stored.cpu().numpy(), pictures, reasons)

    def _load(self, item: Item) -> np.ndarray:
        recipe = self.recipe
        image = images.load(item.image, recipe.size or None)
        side = image.shape[-1]
        if side != recipe.side:
            raise images.BadPicture(
                f"is {side}x{side}, the first one {recipe.side}x{recipe.side}; give --size"
            )
        if recipe.channels == 1 and (image != image[:1]).any():
            raise images.BadPicture("has color, which the pictures before had not")
        return image


def start_workers(
    recipe: Recipe, workers: int, stack: ExitStack
) -> Callable[[Task], "Future[Encoded]"]:
    """A function that has a batch encoded: by processes, or by this one when asked for its result.

    One thread each: on more, sums are added up in another order, and the last bits would depend on
    the machine's number of cores.
    """
    if workers == 1:
        threads = torch.get_num_threads()
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)
        encoder = Encoder(recipe)

        def encode(task: Task) -> "Future[Encoded]":
            future: Future[Encoded] = Future()
            future.set_result(encoder(task))
            return future

        return encode
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(workers, context, _start_worker, (recipe,))
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)
    return lambda task: pool.submit(_work, task)


_encoders: list[Encoder] = []
"""In a worker process: its one encoder."""


def _start_worker(recipe: Recipe) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _encoders.append(Encoder(recipe))


def _end_with_parent() -> None:
    """End this worker when the process that feeds it is killed: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(task: Task) -> Encoded:
    return _encoders[0](task)


def encode_all(
    tasks: Iterator[Task], encode: Callable[[Task], "Future[Encoded]"], ahead: int
) -> Iterator[tuple[Task, Encoded]]:
    """Batches and what became of them, in order, while `ahead` more are under way."""
    pending: deque[tuple[Task, Future[Encoded]]] = deque()
    try:
        for task in tasks:
            pending.append((task, encode(task)))
            if len(pending) > ahead:
                first, future = pending.popleft()
                yield first, future.result()
        for task, future in pending:
            yield task, future.result()
    except BrokenProcessPool:
        raise DataError(
            "a worker process ended unexpectedly; it may have run out of memory",
            "run the same command again, perhaps with fewer --workers: complete shards are kept",
        ) from None


def write_shard(
    path: Path,
    header: dict[str, Any],
    results: Iterator[tuple[Task, Encoded]],
    strict: bool,
    advance: Callable[[int], None],
) -> None:
    """Write one shard of all batches that belong to it.

    Raises:
        DataError: under `strict`, for the first picture that cannot be used.
    """
    row, mirror, keep = header["row"], header["mirror"], header["keep_images"]
    copies = 2 if mirror else 1
    with Writer(path, row["shape"], row["dtype"], mirror, keep) as writer:
        for task, encoded in results:
            place = 0
            for item, reason in zip(task.items, encoded.reasons, strict=True):
                if reason and strict:
                    raise DataError(
                        f"picture `{item.key}` {reason}", "without --strict it would be left out"
                    )
                if reason:
                    writer.leave_out(item.key, item.label, reason)
                    continue
                stored = encoded.stored[place * copies : (place + 1) * copies]
                image = encoded.pictures[place] if keep else b""
                writer.append(item.key, item.label, stored, image)
                place += 1
            advance(len(task.items))


def conclude(
    out: Path, header: dict[str, Any], num_made: int, tell: Callable[[str], None]
) -> Summary:
    """Write the manifest and the list of what was left out; say what is remarkable."""
    paths = sorted(out.glob("shard-*"))
    left_out: list[dict[str, Any]] = []
    labels = np.zeros(len(header["class_names"]), int)
    about: list[dict[str, Any]] = []
    for path in paths:
        found = np.load(path / "labels.npy")
        labels += np.bincount(found, minlength=len(labels))
        missing = shards.read_left_out(path)
        left_out += missing
        digests = read_json(path / MANIFEST)
        about.append(
            {"name": path.name, "rows": len(found), "left_out": len(missing), "digests": digests}
        )
    num_rows = int(labels.sum())
    if not num_rows:
        raise DataError(f"no picture of the source can be used: see `{out}/{shard_name(0)}`")
    with atomic_file(out / shards.QUARANTINE) as draft:
        draft.write_text("".join(map(shards.json_line, left_out)))
    total = {"complete": True, "rows": num_rows, "left_out": len(left_out), "shards": about}
    write_manifest(out, header | total)
    tell(f"{num_rows:,} rows in {len(paths)} shards in `{out}`")
    if left_out:
        tell(f"{len(left_out):,} pictures were left out: see `{out / shards.QUARANTINE}`")
    for line in remarks(labels, header["class_names"]):
        tell(f"notice: {line}")
    return Summary(num_rows, len(left_out), len(paths), num_made)


def remarks(counts: np.ndarray, class_names: list[str]) -> list[str]:
    """Sentences on classes that a user should know of."""
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    lines = []
    if empty:
        some = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        lines.append(f"{len(empty)} of {len(class_names)} classes have no picture: {some}")
    if np.count_nonzero(counts) == 1:
        lines.append("all pictures are of one class: a label will tell the networks nothing")
    return lines
