"""Checking a source before it costs hours: every image is decoded, every label read."""

import hashlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from scalegan.data.images import SUFFIXES, Decoded, Problem, crop
from scalegan.data.sources import Source, SourceImage, class_notices, decode_each
from scalegan.runtime.progress import follow
from scalegan.runtime.workers import Workers

BATCH_SIZE = 16
"""Images that a worker is handed at a time."""
NUM_MEASURED = 200
"""About so many images are encoded to estimate how large all will be."""
MANIFEST_BYTES = 2**20


class ImageFacts(NamedTuple):
    """What is known of an image that can be used, once it is decoded."""

    key: str
    label: int
    notes: list[str]
    format: str
    mode: str
    size: tuple[int, int]
    num_bytes: int
    digest: bytes
    png_bytes: int
    """Size as the shards would hold it; 0 where it was not measured."""


@dataclass
class SourceReport:
    """All that is known of a source after every image was decoded."""

    class_names: list[str]
    side: int
    """What images are to be cropped to; 0 = as they are."""
    classes: Counter[int] = field(default_factory=Counter)
    """Good images by class index."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(width, height), upright."""
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    bad: list[Problem] = field(default_factory=list)
    """Images and labels that would be left out."""
    odd: list[Problem] = field(default_factory=list)
    """Images that can be used although something about them is odd."""
    notices: list[str] = field(default_factory=list)
    """What to know about the source as a whole."""
    png_bytes: float = 0
    """Mean size of an image as the shards would hold it."""

    @property
    def num_good(self) -> int:
        """Images that can be used."""
        return sum(self.classes.values())


def check_source(
    source: Source,
    side: int = 0,
    allow_upscaling: bool = False,
    workers: int = 1,
    is_shown: bool = True,
) -> SourceReport:
    """Decode every image of a source and gather what is odd.

    Args:
        side: what images are to be cropped to; 0: any size is accepted.
        workers: processes that decode; 0 or 1: this one.
        is_shown: whether a long wait shows its progress.

    Raises:
        DataError: if a worker dies, which no image within the limits should cause.
    """
    report = SourceReport(source.class_names, side)
    seen: dict[bytes, str] = {}
    copies: list[tuple[str, str]] = []
    measured: list[int] = []
    every = max(1, (source.num_images or 0) // NUM_MEASURED)
    with Workers(partial(Examiner, side, allow_upscaling, every), max(1, workers)) as pool:
        results = pool.map(_batches(iter(source)))
        found = (about for _, batch in results for about in batch)
        for about in follow(found, source.num_images, "images", is_shown):
            if isinstance(about, Problem):
                report.bad.append(about)
                continue
            report.classes[about.label] += 1
            report.sizes[about.size] += 1
            report.modes[about.mode] += 1
            report.formats[about.format] += 1
            report.num_bytes += about.num_bytes
            report.odd += [Problem(about.key, note, "odd") for note in about.notes]
            measured += [about.png_bytes] if about.png_bytes else []
            first = seen.setdefault(about.digest, about.key)
            copies += [(about.key, first)] if first != about.key else []
    report.bad = [*source.problems, *report.bad]
    report.png_bytes = sum(measured) / max(1, len(measured))
    report.notices = [*source.notes, *_notices(report)]
    if copies:
        key, first = copies[0]
        report.notices.append(
            f"{len(copies):,} images are copies of others, bit for bit, such as `{key}` of "
            f"`{first}`"
        )
    return report


def workers_for(source: Source) -> int:
    """Choose a process per CPU, or this one where starting them would take longer than the work."""
    is_long = source.num_images is None or source.num_images > 2000
    return (os.cpu_count() or 1) if is_long else 1


class Examiner:
    """Decodes images and finds out what they are.

    Args:
        side: what images are to be cropped to; 0: any size is accepted.
        allow_upscaling: whether smaller ones are enlarged.
        measure_every: one of so many images is also encoded as the shards would hold it.
    """

    def __init__(self, side: int, allow_upscaling: bool, measure_every: int) -> None:
        self.side, self.allow_upscaling = side, allow_upscaling
        self.measure_every = measure_every

    def __call__(self, images: list[SourceImage]) -> list[ImageFacts | Problem]:
        found = decode_each(images, self.side, self.allow_upscaling, must_be_square=False)
        return [
            decoded if isinstance(decoded, Problem) else self._facts(image, decoded)
            for image, decoded in found
        ]

    def _facts(self, image: SourceImage, decoded: Decoded) -> ImageFacts:
        notes, data = list(decoded.notes), image.image
        suffix = os.path.splitext(image.key)[1].lower()
        if isinstance(data, bytes) and SUFFIXES.get(suffix, decoded.format) != decoded.format:
            notes.append(f"is {decoded.format}, whatever its name says")
        data = data if isinstance(data, bytes) else data.tobytes()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        is_measured = int.from_bytes(digest) % self.measure_every == 0  # as good as a draw
        return ImageFacts(
            key=image.key,
            label=image.label,
            notes=notes,
            format=decoded.format,
            mode=decoded.mode,
            size=decoded.image.size,
            num_bytes=len(data),
            digest=digest,
            png_bytes=_png_bytes(decoded.image, self.side) if is_measured else 0,
        )


def _batches(images: Iterator[SourceImage]) -> Iterator[list[SourceImage]]:
    while batch := list(islice(images, BATCH_SIZE)):
        yield batch


def _png_bytes(image: Image.Image, side: int) -> int:
    out = io.BytesIO()
    (crop(image, side) if side else image).save(out, format="PNG")
    return out.tell()


def _notices(report: SourceReport) -> list[str]:
    """Sentences on the class table, keys used twice, and sizes."""
    notices = class_notices(report.class_names, report.classes)
    twice = [p.key for p in report.bad if p.kind == "used twice"]
    if twice:
        notices.append(f"{len(twice):,} keys are used twice, such as `{twice[0]}`")
    if report.side:
        return notices
    if any(width != height for width, height in report.sizes):
        notices.append("not all images are square: a size crops them, such as --size 256")
    elif len(report.sizes) > 1:
        notices.append("the images have several sizes: --size brings them to one")
    return notices


def report_lines(report: SourceReport, out: Path) -> list[str]:
    """Write what was found as lines to read, every bad image among them.

    Args:
        out: where shards would be written: its free space is compared.
    """
    counts = [report.classes[i] for i in range(len(report.class_names))]
    # The lists first: what counts stands where a terminal shows it, at the end.
    lines = [f"  {problem.key}: {problem.reason}" for problem in sorted(report.bad)]
    lines = ["left out:", *lines, ""] if lines else []
    if report.odd:
        lines += ["used, but odd:", *(f"  {p.key}: {p.reason}" for p in report.odd), ""]
    lines.append(
        f"{report.num_good:,} images can be used, {len(report.bad):,} images or labels "
        f"cannot; {report.num_bytes / 1e6:,.1f} MB"
    )
    if report.num_good:
        lines.append(f"{len(counts):,} classes of {min(counts):,} to {max(counts):,} images")
        lines += [f"  {bar}" for bar in _histogram(report.class_names, counts)]
        lines += [_sizes(report), "modes: " + _shares(report.modes)]
        lines += ["formats: " + _shares(report.formats), _disk(report, out)]
    if len(report.bad) > 1:
        lines += ["reasons: " + _shares(Counter[str](p.kind for p in report.bad))]
    return [*lines, *(f"notice: {notice}" for notice in report.notices)]


def _histogram(names: list[str], counts: list[int], most: int = 20) -> list[str]:
    """A bar per class; of many classes the smallest and the largest."""
    order = list(range(len(names)))
    if len(order) > most:
        ranked = sorted(order, key=lambda i: (-counts[i], i))
        order = [*ranked[: most // 2], *ranked[-most // 2 :]]
    width = max(len(names[i][:24]) for i in order)
    bars = [
        f"{names[i][:24]:{width}} {counts[i]:>9,} {'#' * round(30 * counts[i] / max(counts))}"
        for i in order
    ]
    return [*bars[: most // 2], "...", *bars[most // 2 :]] if len(names) > most else bars


def _sizes(report: SourceReport) -> str:
    sides = sorted(min(size) for size in report.sizes.elements())
    common = {f"{w}x{h}": count for (w, h), count in report.sizes.items()}
    return (
        f"short sides of {sides[0]:,} to {sides[-1]:,} px, half of them up to "
        f"{sides[len(sides) // 2]:,}: {_shares(Counter(common))}"
    )


def _shares(counter: Counter[str], most: int = 6) -> str:
    some = [f"{name} ({count:,})" for name, count in counter.most_common(most)]
    more = len(counter) - most
    return ", ".join(some) + (f" and {more:,} more" if more > 0 else "")


def _disk(report: SourceReport, out: Path) -> str:
    """What shards would take, a PNG and a latent per image, against what is free."""
    folder = next(p for p in [out, *out.absolute().parents] if p.exists())
    free = shutil.disk_usage(folder).free
    images = report.num_good * report.png_bytes
    side = report.side or max(max(size) for size in report.sizes)
    # Mean and deviation of four channels, 16 bits each, an eighth of the side: Stable Diffusion's.
    latents = report.num_good * 2 * 8 * (side // 8) ** 2
    needed = images + latents + MANIFEST_BYTES
    verdict = "" if needed < free else ", WHICH IS TOO LITTLE"
    return (
        f"as shards about {needed / 1e6:,.0f} MB (images {images / 1e6:,.0f} MB, latents of a "
        f"Stable Diffusion autoencoder {latents / 1e6:,.0f} MB); `{folder}` has {free / 1e6:,.0f} "
        f"MB free{verdict}"
    )
