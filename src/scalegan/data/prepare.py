"""From a source of images to shards: decoded, cropped, encoded, written; by several processes.

What is written depends on the source and the settings alone, not on the number of processes nor on
how often the work was interrupted: shard k holds images k * M to (k + 1) * M - 1 of the source's
order, less those left out, and images are encoded in batches that are cut by the same rule.
"""

import itertools
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch

from scalegan.autoencoders.tables import AUTOENCODERS
from scalegan.config.schema import AutoencoderConfig
from scalegan.data import images, shards
from scalegan.data.manifest import FORMAT
from scalegan.data.shards import Writer, shard_name
from scalegan.data.sources import Item, Source, class_notices, open_source
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
BATCH_SIZE = 16
"""Images that a worker is handed at a time."""


@dataclass(frozen=True)
class Recipe:
    """How a image becomes a row: all that a worker needs to know."""

    autoencoder: AutoencoderConfig
    size: int
    """Side to crop to; 0 = images are square and of one size already."""
    allow_upscaling: bool
    mirror: bool
    keep_images: bool
    channels: int = 0
    side: int = 0

    @property
    def copies(self) -> int:
        """Rows per image."""
        return 2 if self.mirror else 1


class Task(NamedTuple):
    """Images of one shard to encode together."""

    shard: int
    items: list[Item]


class Encoded(NamedTuple):
    """What became of a task's images, those that could be read."""

    stored: np.ndarray
    """(copies * images, ...): a image, its mirror image, the next image ...; the images
    themselves where they are encoded elsewhere."""
    images: list[bytes]
    reasons: list[str]
    """Per image of the task, why it was left out; empty if it was not."""


@dataclass(frozen=True)
class Summary:
    """What a preparation did."""

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
    """Prepare a source, or go on where an earlier call stopped.

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
        strict: whether a image that cannot be used ends the work.
        tell: where sentences go.

    Raises:
        ConfigError: if the autoencoder is not to be had, or the images do not fit it.
        DataError: if the source cannot be read, `out` holds another preparation, the disk is too
            small or, under `strict`, a image is bad.
    """
    recipe = Recipe(autoencoder or AutoencoderConfig(), size, allow_upscaling, mirror, keep_images)
    opened = open_source(source, SOURCES)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "preparing"):
        clear_drafts(out)
        recipe, header, png_bytes = describe(source, out, opened, recipe, shard_rows, tell)
        kept = shards.find_sound(out, tell)
        if header["complete"] and len(kept) == len(header["shards"]):
            tell(f"`{out}` is complete: {header['rows']:,} rows in {len(kept)} shards")
            return Summary(header["rows"], header["left_out"], len(kept), 0)
        if kept:
            tell(f"going on: {len(kept)} complete shards are kept")
        estimate_disk(out, header, png_bytes, opened.num_items, tell)
        is_apart = device != "cpu"
        workers = workers or len(os.sched_getaffinity(0))
        num_made = 0
        with (
            Workers(partial(Worker, recipe, encodes=not is_apart), workers) as pool,
            Bar(opened.num_items, "images") as progress,
        ):
            results = pool.map(cut(out, opened, header, kept, progress.skip))
            if is_apart:
                results = encode_on(device, recipe, results)
            for shard, part in itertools.groupby(results, key=lambda result: result[0].shard):
                write_shard(out / shard_name(shard), header, part, strict, progress.advance)
                num_made += 1
        return conclude(out, opened, header, num_made, strict, tell)


def describe(
    source: str,
    out: Path,
    opened: Source,
    recipe: Recipe,
    shard_rows: int,
    tell: Callable[[str], None],
) -> tuple[Recipe, dict[str, Any], float]:
    """Find out what the images are; write it into `out`, or compare it with what is there.

    Returns:
        The recipe with channels and side; the manifest; bytes of a image as PNG.
    """
    before = shards.read_manifest(out) if (out / MANIFEST).is_file() else None
    if before is None and any(out.iterdir()):
        raise DataError(
            f"`{out}` is not empty and holds no preparation", "choose a new or an empty folder"
        )
    is_same = before is not None and (before["source"], before["size"]) == (source, recipe.size)
    known = before["channels"] if before is not None and is_same else 0
    channels, side, png_bytes = look(open_source(source, SOURCES), recipe, known)
    recipe = replace(recipe, channels=channels, side=side)
    encoder = AUTOENCODERS[recipe.autoencoder.kind](recipe.autoencoder, channels, side)
    stored = encoder.encode(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    header = {
        "format": FORMAT,
        "complete": False,
        "source": source,
        "size": recipe.size,
        "allow_upscaling": recipe.allow_upscaling,
        "crop": CROP if recipe.size else "none",
        "channels": channels,
        "side": side,
        "mirror": recipe.mirror,
        "keep_images": recipe.keep_images,
        "shard_images": max(1, shard_rows // recipe.copies),
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
    shards.refuse_other(out, before, header)
    for name, now in versions().items():
        if now != before["versions"].get(name):
            tell(f"notice: begun with {name} {before['versions'].get(name)}, going on with {now}")
    return recipe, before, png_bytes


def look(source: Source, recipe: Recipe, channels: int) -> tuple[int, int, float]:
    """Channels (1 if all images are gray), side, and bytes of a image as PNG.

    A set with color in it shows at the first colored image; a gray one is read to its end.
    """
    sizes: list[int] = []
    side = recipe.size
    for item in source.items:
        try:
            image = images.load(item.image, recipe.size or None, recipe.allow_upscaling)
        except images.BadImage:
            continue
        side = side or image.shape[-1]
        if recipe.keep_images and len(sizes) < BATCH_SIZE:
            sizes.append(len(images.encode_png(image)))
        if not channels and (image != image[:1]).any():
            channels = 3
        if channels and (len(sizes) == BATCH_SIZE or not recipe.keep_images):
            break
    if not side:
        raise DataError("the source holds no image that can be used")
    return channels or 1, side, float(np.mean(sizes)) if sizes else 0.0


def versions() -> dict[str, str]:
    """What may decide the last bit of a row."""
    return {
        "scalegan": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "machine": platform.machine(),
    }


def write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    with atomic_file(out / MANIFEST) as draft:
        write_json(draft, manifest)


def estimate_disk(
    out: Path,
    header: dict[str, Any],
    png_bytes: float,
    count: int | None,
    tell: Callable[[str], None],
) -> None:
    """Say how much will be written, and refuse what cannot fit."""
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


def cut(
    out: Path,
    opened: Source,
    header: dict[str, Any],
    kept: Sequence[int],
    skip: Callable[[int], None],
) -> Iterator[Task]:
    """The work that is left, in order; images of shards that are there are only compared.

    Raises:
        DataError: if the source is not what the shards that are there were made of.
    """
    items = iter(opened.items)
    for shard in itertools.count():
        part = itertools.islice(items, header["shard_images"])
        if shard in kept:
            skip(shards.compare(out / shard_name(shard), part, header["mirror"]))
            continue
        num_images = 0
        while batch := list(itertools.islice(part, BATCH_SIZE)):
            num_images += len(batch)
            yield Task(shard, batch)
        if num_images < header["shard_images"] and shard >= max(kept, default=-1):
            return


class Worker:
    """Decodes, crops and encodes images; where a GPU encodes, it leaves that to others."""

    def __init__(self, recipe: Recipe, encodes: bool) -> None:
        self.recipe = recipe
        make = AUTOENCODERS[recipe.autoencoder.kind]
        config = recipe.autoencoder
        self.autoencoder = make(config, recipe.channels, recipe.side) if encodes else None

    def __call__(self, task: Task) -> Encoded:
        recipe, good, reasons = self.recipe, [], []
        for item in task.items:
            try:
                good.append(self._load(item))
                reasons.append("")
            except images.BadImage as error:
                reasons.append(str(error))
        if not good:
            return Encoded(np.empty(0), [], reasons)
        files = [images.encode_png(image) for image in good] if recipe.keep_images else []
        if recipe.mirror:
            good = [copy for image in good for copy in (image, image[..., ::-1])]
        stored = np.stack(good)  # (N, 3, P, P)
        if self.autoencoder is not None:
            stored = self.autoencoder.encode(torch.from_numpy(stored)).numpy()
        return Encoded(stored, files, reasons)

    def _load(self, item: Item) -> np.ndarray:
        recipe = self.recipe
        image = images.load(item.image, recipe.size or None, recipe.allow_upscaling)
        side = image.shape[-1]
        if side != recipe.side:
            raise images.BadImage(
                f"is {side}x{side} where the first one is {recipe.side}x{recipe.side}; a size "
                "such as --size 64 crops them"
            )
        if recipe.channels == 1 and (image != image[:1]).any():
            raise images.BadImage("has color, which no image had when the work began")
        return image


def encode_on(
    device: str, recipe: Recipe, results: Iterator[tuple[Task, Encoded]]
) -> Iterator[tuple[Task, Encoded]]:
    """Encode on a GPU what the workers have decoded."""
    make = AUTOENCODERS[recipe.autoencoder.kind]
    autoencoder = make(recipe.autoencoder, recipe.channels, recipe.side)
    for task, encoded in results:
        if len(encoded.stored):
            stored = autoencoder.encode(torch.from_numpy(encoded.stored).to(device))
            encoded = encoded._replace(stored=stored.cpu().numpy())
        yield task, encoded


def write_shard(
    path: Path,
    header: dict[str, Any],
    results: Iterator[tuple[Task, Encoded]],
    strict: bool,
    advance: Callable[[int], None],
) -> None:
    """Write one shard of all batches that belong to it.

    Raises:
        DataError: under `strict`, for the first image that cannot be used.
    """
    row, mirror, keep = header["row"], header["mirror"], header["keep_images"]
    copies = 2 if mirror else 1
    with Writer(path, row["shape"], row["dtype"], mirror, keep) as writer:
        for task, encoded in results:
            place = 0
            for item, reason in zip(task.items, encoded.reasons, strict=True):
                if reason and strict:
                    raise DataError(
                        f"image `{item.key}`: {reason}", "without --strict it would be left out"
                    )
                if reason:
                    writer.leave_out(item.key, item.label, reason)
                    continue
                stored = encoded.stored[place * copies : (place + 1) * copies]
                image = encoded.images[place] if keep else b""
                writer.append(item.key, item.label, stored, image)
                place += 1
            advance(len(task.items))


def conclude(
    out: Path,
    opened: Source,
    header: dict[str, Any],
    num_made: int,
    strict: bool,
    tell: Callable[[str], None],
) -> Summary:
    """Write the manifest and the list of what was left out; say what is remarkable.

    Raises:
        DataError: if there is no row, or under `strict`, one was left out.
    """
    # What the source itself could not read comes first: it has no place in the order.
    left_out: list[dict[str, Any]] = [{"key": k, "reason": reason} for k, reason in opened.problems]
    about: list[dict[str, Any]] = []
    labels: list[int] = []
    for path in sorted(out.glob("shard-*")):
        found, missing = np.load(path / "labels.npy").tolist(), shards.read_left_out(path)
        labels += found
        left_out += missing
        about.append({"name": path.name, "rows": len(found), "left_out": len(missing),
                      "digests": read_json(path / MANIFEST)})  # fmt: skip
    with atomic_file(out / shards.QUARANTINE) as draft:
        draft.write_text("".join(map(shards.json_line, left_out)), encoding="utf-8")
    if left_out:
        where = f"see `{out / shards.QUARANTINE}`"
        first = f"such as `{left_out[0]['key']}`: {left_out[0]['reason']}"
        tell(f"notice: {len(left_out):,} images or labels were left out, {first}; {where}")
        if strict:
            raise DataError(f"{len(left_out):,} images or labels cannot be used; {where}")
    if not labels:
        raise DataError(f"the source `{header['source']}` holds no image that can be used")
    for note in [*opened.notes, *class_notices(header["class_names"], labels)]:
        tell(f"notice: {note}")
    total = {"complete": True, "rows": len(labels), "left_out": len(left_out), "shards": about}
    write_manifest(out, header | total)
    tell(f"{len(labels):,} rows in {len(about)} shards in `{out}`")
    return Summary(len(labels), len(left_out), len(about), num_made)
