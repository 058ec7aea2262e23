"""Checking a source before it costs hours: every image is decoded, every label read."""

import hashlib
import io
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from scalegan.data.images import SUFFIXES, Decoded, Problem, crop
from scalegan.data.sources import Source, SourceImage, class_notices, decode_each
from scalegan.runtime.progress import follow
from scalegan.runtime.workers import Workers

BATCH_SIZE = 16
"""Images that a worker is handed at a time."""
NUM_MEASURED = 200
"""About so many images are encoded to estimate how large all will be."""


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
    passed_over: list[Problem] = field(default_factory=list)
    """Files that are no images, hidden, or of another split."""
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
    """
    report = SourceReport(source.class_names, side)
    seen: dict[bytes, str] = {}
    copies: list[tuple[str, str]] = []
    measured: list[int] = []
    every = max(1, (source.num_images or 0) // NUM_MEASURED)
    images = iter(source)
    batches = iter(lambda: list(islice(images, BATCH_SIZE)), [])
    with Workers(partial(partial, examine, side, allow_upscaling, every), max(1, workers)) as pool:
        results = pool.map(batches)
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
    report.passed_over = [*source.passed_over]
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


def examine(
    side: int, allow_upscaling: bool, measure_every: int, images: list[SourceImage]
) -> list[ImageFacts | Problem]:
    """Decode images and find out what they are; one of `measure_every` is encoded as in shards."""
    return [
        decoded if isinstance(decoded, Problem) else _facts(image, decoded, side, measure_every)
        for image, decoded in decode_each(images, side, allow_upscaling, must_be_square=False)
    ]


def _facts(image: SourceImage, decoded: Decoded, side: int, measure_every: int) -> ImageFacts:
    notes, data = list(decoded.notes), image.image
    suffix = os.path.splitext(image.key)[1].lower()
    if isinstance(data, bytes) and SUFFIXES.get(suffix, decoded.format) != decoded.format:
        notes.append(f"is {decoded.format}, whatever its name says")
    data = data if isinstance(data, bytes) else data.tobytes()
    digest = hashlib.blake2b(data, digest_size=16).digest()
    png = io.BytesIO()
    if int.from_bytes(digest) % measure_every == 0:  # as good as a draw
        (crop(decoded.image, side) if side else decoded.image).save(png, format="PNG")
    return ImageFacts(
        key=image.key,
        label=image.label,
        notes=notes,
        format=decoded.format,
        mode=decoded.mode,
        size=decoded.image.size,
        num_bytes=len(data),
        digest=digest,
        png_bytes=png.tell(),
    )


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
    if report.passed_over:
        lines += ["passed over:", *_some_lines(report.passed_over), ""]
    if report.odd:
        lines += ["used, but odd:", *(f"  {p.key}: {p.reason}" for p in report.odd), ""]
    lines.append(
        f"{report.num_good:,} images can be used, {len(report.bad):,} images or labels "
        f"cannot; {report.num_bytes / 1e6:,.1f} MB"
    )
    if report.passed_over:
        kinds = _shares(Counter[str](p.kind for p in report.passed_over))
        lines.append(f"{len(report.passed_over):,} files or folders were passed over: {kinds}")
    if report.num_good:
        lines.append(f"{len(counts):,} classes of {min(counts):,} to {max(counts):,} images")
        lines += [f"  {bar}" for bar in _histogram(report.class_names, counts)]
        sides = sorted(min(size) for size in report.sizes.elements())
        sizes = Counter({f"{w}x{h}": count for (w, h), count in report.sizes.items()})
        lines += [
            f"short sides of {sides[0]:,} to {sides[-1]:,} px, half of them up to "
            f"{sides[len(sides) // 2]:,}: {_shares(sizes)}",
            "modes: " + _shares(report.modes),
            "formats: " + _shares(report.formats),
            _disk(report, out),
        ]
    if len(report.bad) > 1:
        lines += ["reasons: " + _shares(Counter[str](p.kind for p in report.bad))]
    return [*lines, *(f"notice: {notice}" for notice in report.notices)]


def _some_lines(problems: list[Problem], most: int = 100) -> list[str]:
    """A line per problem; of a long list the first ones and how many more there are."""
    lines = [f"  {problem.key}: {problem.reason}" for problem in sorted(problems)[:most]]
    more = len(problems) - most
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


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
    needed = images + latents + 2**20  # and a manifest
    verdict = "" if needed < free else ", WHICH IS TOO LITTLE"
    return (
        f"as shards about {needed / 1e6:,.0f} MB (images {images / 1e6:,.0f} MB, latents of a "
        f"Stable Diffusion autoencoder {latents / 1e6:,.0f} MB); `{folder}` has {free / 1e6:,.0f} "
        f"MB free{verdict}"
    )
