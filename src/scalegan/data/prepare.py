"""Preparing a data set: images of a source are decoded, cropped, encoded and written as shards.

What is written depends on the source and the settings alone, not on the number of processes nor on
how often the work was interrupted: shard k holds images k * M to (k + 1) * M - 1 of the source's
order, less those left out, and images are encoded in batches that are cut by the same rule.
"""

import itertools
import os
import platform
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from scalegan.config.schema import AutoencoderConfig
from scalegan.data import shards
from scalegan.data.encoding import (
    BATCH_SIZE,
    EncodedBatch,
    ImageBatch,
    RowSettings,
    Worker,
    encode_on,
    measure_images,
)
from scalegan.data.images import Problem
from scalegan.data.manifest import FORMAT
from scalegan.data.names import printable
from scalegan.data.shards import EncodedImage, shard_name, write_shard
from scalegan.data.sources import Source, class_notices, open_source, refuse_empty
from scalegan.data.tables import SOURCES
from scalegan.errors import DataError
from scalegan.runtime.files import (
    MANIFEST,
    atomic_file,
    clear_drafts,
    locked,
    read_json,
    write_json,
)
from scalegan.runtime.progress import Bar
from scalegan.runtime.workers import Workers
from scalegan.version import __version__

CROP = "center crop as in ADM (arXiv 2105.05233): halved by boxes, then bicubic"


@dataclass(frozen=True)
class Summary:
    """Counts of a complete preparation."""

    rows: int
    left_out: int
    num_shards: int
    num_made: int
    """Shards made by this call; the others were there."""


def prepare(
    source: str,
    out: Path,
    size: int = 0,
    autoencoder: AutoencoderConfig | None = None,
    *,
    allow_upscaling: bool = False,
    mirror: bool = False,
    keep_images: bool = False,
    shard_rows: int = 10_000,
    workers: int = 0,
    device: str = "cpu",
    strict: bool = False,
    tell: Callable[[str], None] = print,
) -> Summary:
    """Write a source's images as shards, or go on where an earlier call stopped.

    Worker processes import the main module anew: a script that calls this needs the usual
    `if __name__ == "__main__":`.

    Args:
        source: as `data.source` has it.
        out: the folder of the shards; created if need be.
        size: side to crop to; 0 = images are square and of one size already.
        autoencoder: None = pixels.
        allow_upscaling: whether images smaller than `size` are enlarged instead of left out.
        mirror: whether every image's mirror image is a row of its own.
        keep_images: whether the images themselves are kept, for a teacher or a classifier.
        shard_rows: rows of a shard, less those left out.
        workers: processes; 0 = one per usable core; 1 = this one alone.
        device: where images are encoded: "cpu" (by the workers) or "cuda" (by this process).
        strict: whether an image that cannot be used ends the work.
        tell: where sentences for the user go.

    Raises:
        ConfigError: if the autoencoder is not available, or the images do not fit it.
        DataError: if the source cannot be read, `out` holds another preparation, the disk is too
            small or, under `strict`, an image is bad.
    """
    autoencoder = autoencoder or AutoencoderConfig()
    settings = RowSettings(autoencoder, size, allow_upscaling, mirror, keep_images)
    opened = open_source(source, SOURCES)
    source = printable(source)  # as the manifest has it
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "preparing"):
        clear_drafts(out)
        settings, header, png_bytes = begin(source, out, opened, settings, shard_rows, tell)
        complete = shards.find_sound(out, tell)
        if header["complete"] and len(complete) == len(header["shards"]):
            tell(f"`{out}` is complete: {header['rows']:,} rows in {len(complete)} shards")
            return Summary(header["rows"], header["left_out"], len(complete), 0)
        if complete:
            tell(f"going on: {len(complete)} complete shards are kept")
        estimate_disk(out, header, png_bytes, opened.num_images, tell)
        is_apart = device != "cpu"
        workers = workers or len(os.sched_getaffinity(0))
        row, keep = header["row"], header["keep_images"]
        num_made = 0
        with (
            Workers(partial(Worker, settings, encodes=not is_apart), workers) as pool,
            Bar(opened.num_images, "images") as progress,
        ):
            results = pool.map(pending_batches(out, opened, header, complete, progress.skip))
            if is_apart:
                results = encode_on(device, settings, results)
            for shard, part in itertools.groupby(results, key=lambda result: result[0].shard):
                images = encoded_images(header, part, strict, progress.advance)
                write_shard(out / shard_name(shard), row["shape"], row["dtype"], keep, images)
                num_made += 1
        return complete_manifest(out, opened, header, num_made, strict, tell)


def begin(
    source: str,
    out: Path,
    opened: Source,
    settings: RowSettings,
    shard_rows: int,
    tell: Callable[[str], None],
) -> tuple[RowSettings, dict[str, Any], float]:
    """Write the manifest of a new preparation, or take up that of an earlier call.

    Returns:
        The settings with channels and side; the manifest; the mean size of a PNG in bytes, if
        images are kept.
    """
    before = shards.read_manifest(out) if (out / MANIFEST).is_file() else None
    if before is None and any(out.iterdir()):
        raise DataError(
            f"`{out}` is not empty and holds no preparation", "choose a new or an empty folder"
        )
    if before and (before["source"], before["size"]) == (source, settings.size):
        settings = replace(settings, channels=before["channels"], side=before["side"])
    settings, png_bytes = measure_images(opened, settings)
    autoencoder = settings.make_autoencoder()
    blank = torch.zeros(1, 3, settings.side, settings.side, dtype=torch.uint8)
    stored = autoencoder.encode(blank).cpu().numpy()
    # What may decide the last bit of a row.
    versions = {
        "scalegan": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "machine": platform.machine(),
    }
    header = {
        "format": FORMAT,
        "complete": False,
        "source": source,
        "size": settings.size,
        "allow_upscaling": settings.allow_upscaling,
        "crop": CROP if settings.size else "none",
        "channels": settings.channels,
        "side": settings.side,
        "mirror": settings.mirror,
        "keep_images": settings.keep_images,
        "shard_images": max(1, shard_rows // settings.copies),
        "autoencoder": {
            "config": asdict(settings.autoencoder),
            "identity": autoencoder.identity(),
            "shape": list(autoencoder.shape),
        },
        "row": {"shape": list(stored.shape[1:]), "dtype": str(stored.dtype)},
        "class_names": opened.class_names,
        "versions": versions,
    }
    if before is None:
        write_manifest(out, header)
        return settings, header, png_bytes
    shards.refuse_other_preparation(out, before, header)
    for name, now in versions.items():
        if now != before["versions"].get(name):
            tell(f"notice: begun with {name} {before['versions'].get(name)}, going on with {now}")
    return settings, before, png_bytes


def write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest at once, or leave the one that is there."""
    with atomic_file(out / MANIFEST) as draft:
        write_json(draft, manifest)


def estimate_disk(
    out: Path,
    header: dict[str, Any],
    png_bytes: float,
    count: int | None,
    tell: Callable[[str], None],
) -> None:
    """Say how much will be written, and refuse it where the disk is too small."""
    row, copies = header["row"], 2 if header["mirror"] else 1
    per_image = copies * int(np.prod(row["shape"])) * np.dtype(row["dtype"]).itemsize + png_bytes
    free = shutil.disk_usage(out).free
    shape = "x".join(map(str, row["shape"]))
    about = f"{copies} row(s) of {shape} {row['dtype']} per image, {per_image / 2**10:,.1f} KiB"
    if count is None:
        tell(f"{about}; {free / 2**30:,.1f} GiB free")
        return
    made = sum(file.stat().st_size for file in out.glob("shard-*/*"))
    total = count * per_image
    tell(f"{count:,} images, {about}: about {total / 2**30:,.2f} GiB; {free / 2**30:,.1f} GiB free")
    if total - made > free:
        raise DataError(
            f"the shards need about {(total - made) / 2**30:,.1f} GiB more, but only "
            f"{free / 2**30:,.1f} GiB are free on the disk of `{out}`",
            "make room, choose another disk, or leave --keep-images out",
        )


def pending_batches(
    out: Path,
    opened: Source,
    header: dict[str, Any],
    complete: Collection[int],
    skip: Callable[[int], None],
) -> Iterator[ImageBatch]:
    """Yield the batches to encode, in order; images of complete shards are compared with them."""
    images = iter(opened)
    for shard in itertools.count():
        part = itertools.islice(images, header["shard_images"])
        if shard in complete:
            path = out / shard_name(shard)
            skip(shards.refuse_changed_source(path, part, header["mirror"]))
            continue
        num_images = 0
        while batch := list(itertools.islice(part, BATCH_SIZE)):
            num_images += len(batch)
            yield ImageBatch(shard, batch)
        if num_images < header["shard_images"] and shard >= max(complete, default=-1):
            return


def encoded_images(
    header: dict[str, Any],
    results: Iterator[tuple[ImageBatch, EncodedBatch]],
    strict: bool,
    advance: Callable[[int], None],
) -> Iterator[EncodedImage]:
    """Cut the batches of a shard into its images; refuse bad ones under `strict`."""
    copies = 2 if header["mirror"] else 1
    for batch, encoded in results:
        stored = iter(encoded.stored.reshape(-1, copies, *encoded.stored.shape[1:]))
        png = iter(encoded.png)
        for image, reason in zip(batch.images, encoded.reasons, strict=True):
            if reason and strict:
                hint = "without --strict it would be left out"
                raise DataError(f"image `{image.key}`: {reason}", hint)
            if reason:
                yield EncodedImage(image.key, image.label, reason=reason)
            else:
                yield EncodedImage(image.key, image.label, next(stored), next(png, b""))
        advance(len(batch.images))


def complete_manifest(
    out: Path,
    opened: Source,
    header: dict[str, Any],
    num_made: int,
    strict: bool,
    tell: Callable[[str], None],
) -> Summary:
    """Write the manifest and the list of what was left out, and say what is remarkable."""
    # What the source itself could not read comes first: it has no place in the order.
    left_out: list[dict[str, Any]] = [{"key": p.key, "reason": p.reason} for p in opened.problems]
    about: list[dict[str, Any]] = []
    labels: list[int] = []
    for path in sorted(out.glob("shard-*")):
        found, missing = np.load(path / "labels.npy").tolist(), shards.read_left_out(path)
        labels += found
        left_out += missing
        counts = {"rows": len(found), "left_out": len(missing)}
        about.append({"name": path.name, **counts, "digests": read_json(path / MANIFEST)})
    passed_over = [{"key": p.key, "passed over": p.reason} for p in opened.passed_over]
    with atomic_file(out / shards.QUARANTINE) as draft:
        lines = map(shards.json_line, [*left_out, *passed_over])
        draft.write_text("".join(lines), encoding="utf-8")
    if left_out:
        where = f"see `{out / shards.QUARANTINE}`"
        first = f"such as `{left_out[0]['key']}`: {left_out[0]['reason']}"
        tell(f"notice: {len(left_out):,} images or labels were left out, {first}; {where}")
        if strict:
            raise DataError(f"{len(left_out):,} images or labels cannot be used; {where}")
    if not labels:
        bad = [Problem(line["key"], line["reason"], "cannot be read") for line in left_out]
        raise refuse_empty(opened, bad)
    for note in [*opened.notes, *class_notices(header["class_names"], labels)]:
        tell(f"notice: {note}")
    total = {"complete": True, "rows": len(labels), "left_out": len(left_out), "shards": about}
    write_manifest(out, header | total)
    tell(f"{len(labels):,} rows in {len(about)} shards in `{out}`")
    return Summary(len(labels), len(left_out), len(about), num_made)
