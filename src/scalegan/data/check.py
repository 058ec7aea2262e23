"""Every image and label of a source, looked at before they cost hours."""

import hashlib
import io
import multiprocessing
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from scalegan.data.images import SUFFIXES, BadImage, check_size, crop, decode
from scalegan.data.sources import Item, Problem, Source, class_notices
from scalegan.errors import DataError
from scalegan.runtime.progress import follow

AT_ONCE = 16
"""Images that a worker is handed at a time."""
MEASURED = 200
"""About so many images are encoded to estimate how large all will be."""
MANIFEST_BYTES = 2**20


class Look(NamedTuple):
    """What one image turned out to be; `reason` is empty if it can be used."""

    key: str
    label: int
    reason: str = ""
    notes: tuple[str, ...] = ()
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    num_bytes: int = 0
    digest: bytes = b""
    png_bytes: int = 0
    """Size as the shards would hold it; 0 where it was not measured."""


@dataclass
class Findings:
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
    """Mean size of a image as the shards would hold it."""

    @property
    def num_good(self) -> int:
        return sum(self.classes.values())


def check(
    source: Source,
    side: int = 0,
    allow_upscaling: bool = False,
    workers: int = 0,
    is_shown: bool = True,
) -> Findings:
    """Decode every image of a source and gather what is odd.

    Args:
        side: what images are to be cropped to; 0: any size is accepted.
        workers: processes that decode; 0: this one.
        is_shown: whether a long wait shows its progress.

    Raises:
        DataError: if a worker dies, which no image within the limits should cause.
    """
    findings = Findings(source.class_names, side)
    seen: dict[bytes, str] = {}
    copies: list[tuple[str, str]] = []
    measured: list[int] = []
    looks = _looks(source, side, allow_upscaling, workers)
    for look in follow(looks, source.num_items, "images", is_shown):
        if look.reason:
            findings.bad.append(Problem(look.key, look.reason))
            continue
        findings.classes[look.label] += 1
        findings.sizes[look.size] += 1
        findings.modes[look.mode] += 1
        findings.formats[look.format] += 1
        findings.num_bytes += look.num_bytes
        findings.odd += [Problem(look.key, note) for note in look.notes]
        measured += [look.png_bytes] if look.png_bytes else []
        first = seen.setdefault(look.digest, look.key)
        copies += [(look.key, first)] if first != look.key else []
    findings.bad = [*source.problems, *findings.bad]
    findings.png_bytes = sum(measured) / max(1, len(measured))
    findings.notices = [*source.notes, *_notices(findings)]
    if copies:
        key, first = copies[0]
        findings.notices.append(
            f"{len(copies):,} images are copies of others, bit for bit, such as `{key}` of "
            f"`{first}`"
        )
    return findings


def workers_for(source: Source) -> int:
    """A process per CPU, or none where starting them would take longer than the work."""
    is_long = source.num_items is None or source.num_items > 2000
    return (os.cpu_count() or 1) if is_long else 0


def _looks(source: Source, side: int, allow_upscaling: bool, workers: int) -> Iterator[Look]:
    every = max(1, (source.num_items or 0) // MEASURED)
    tasks = ((i, item) for i, item in enumerate(source.items))
    if not workers:
        for i, item in tasks:
            yield examine(item, side, allow_upscaling, i % every == 0)
        return
    # Spawned, not forked: a fork of a process with threads can stand still.
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[list[Look]]] = deque()
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            while batch := list(islice(tasks, AT_ONCE)):
                waiting.append(pool.submit(_examine_all, batch, side, allow_upscaling, every))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            "a process that decodes images died, by lack of memory or a crash in a decoder",
            "try fewer --workers; --workers 0 decodes one after the other",
        ) from None


def _examine_all(
    batch: list[tuple[int, Item]], side: int, allow_upscaling: bool, every: int
) -> list[Look]:
    return [examine(item, side, allow_upscaling, i % every == 0) for i, item in batch]


def examine(item: Item, side: int, allow_upscaling: bool, is_measured: bool) -> Look:
    """Decode one image and see what it is.

    Args:
        is_measured: whether it is also encoded as the shards would hold it.
    """
    try:
        decoded = decode(item.image)
        size = decoded.image.size
        if side:
            check_size(size, side, allow_upscaling)
    except BadImage as error:
        return Look(item.key, item.label, str(error))
    notes = list(decoded.notes)
    suffix = os.path.splitext(item.key)[1].lower()
    if isinstance(item.image, bytes) and SUFFIXES.get(suffix, decoded.format) != decoded.format:
        notes.append(f"is {decoded.format}, whatever its name says")
    data = item.image if isinstance(item.image, bytes) else item.image.tobytes()
    png_bytes = 0
    if is_measured:
        out = io.BytesIO()
        image: Image.Image = crop(decoded.image, side) if side else decoded.image
        image.save(out, format="PNG")
        png_bytes = out.tell()
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return Look(
        item.key, item.label, "", tuple(notes), decoded.format, decoded.mode, size, len(data),
        digest, png_bytes,
    )  # fmt: skip


def _notices(findings: Findings) -> list[str]:
    """What the counts say: class table, sizes, keys."""
    labels = (label for label, count in findings.classes.items() for _ in range(min(count, 1)))
    notices = class_notices(findings.class_names, labels)
    twice = [p.key for p in findings.bad if "twice" in p.reason]
    if twice:
        notices.append(f"{len(twice):,} keys are used twice, such as `{twice[0]}`")
    if findings.side:
        return notices
    if any(width != height for width, height in findings.sizes):
        notices.append("not all images are square: a size crops them, such as --size 256")
    elif len(findings.sizes) > 1:
        notices.append("the images have several sizes: --size brings them to one")
    return notices


def report(findings: Findings, out: Path) -> list[str]:
    """Findings as lines to read, every bad image among them.

    Args:
        out: where shards would be written: its free space is compared.
    """
    counts = [findings.classes[i] for i in range(len(findings.class_names))]
    # The lists first: what counts stands where a terminal shows it, at the end.
    lines = [f"  {problem.key}: {problem.reason}" for problem in sorted(findings.bad)]
    lines = ["left out:", *lines, ""] if lines else []
    if findings.odd:
        lines += ["used, but odd:", *(f"  {p.key}: {p.reason}" for p in findings.odd), ""]
    lines.append(
        f"{findings.num_good:,} images can be used, {len(findings.bad):,} images or labels "
        f"cannot; {findings.num_bytes / 1e6:,.1f} MB"
    )
    if findings.num_good:
        lines.append(f"{len(counts):,} classes of {min(counts):,} to {max(counts):,} images")
        lines += [f"  {bar}" for bar in _histogram(findings.class_names, counts)]
        lines += [_sizes(findings), "modes: " + _shares(findings.modes)]
        lines += ["formats: " + _shares(findings.formats), _disk(findings, out)]
    reasons = Counter(p.reason.split(":")[0] for p in findings.bad)
    if len(findings.bad) > 1 and len(reasons) <= 12:
        lines += ["reasons: " + _shares(reasons)]
    return [*lines, *(f"notice: {notice}" for notice in findings.notices)]


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


def _sizes(findings: Findings) -> str:
    sides = sorted(min(size) for size in findings.sizes.elements())
    common = {f"{w}x{h}": count for (w, h), count in findings.sizes.items()}
    return (
        f"short sides of {sides[0]:,} to {sides[-1]:,} px, half of them up to "
        f"{sides[len(sides) // 2]:,}: {_shares(Counter(common))}"
    )


def _shares(counter: Counter[str], most: int = 6) -> str:
    some = [f"{name} ({count:,})" for name, count in counter.most_common(most)]
    more = len(counter) - most
    return ", ".join(some) + (f" and {more:,} more" if more > 0 else "")


def _disk(findings: Findings, out: Path) -> str:
    """What shards would take: a PNG and a latent a image, against what is free."""
    folder = next(p for p in [out, *out.absolute().parents] if p.exists())
    free = shutil.disk_usage(folder).free
    images = findings.num_good * findings.png_bytes
    side = findings.side or max(max(size) for size in findings.sizes)
    # Mean and deviation of four channels, 16 bits each, an eighth of the side: Stable Diffusion's.
    latents = findings.num_good * 2 * 8 * (side // 8) ** 2
    needed = images + latents + MANIFEST_BYTES
    verdict = "" if needed < free else ", WHICH IS TOO LITTLE"
    return (
        f"as shards about {needed / 1e6:,.0f} MB (images {images / 1e6:,.0f} MB, latents of a "
        f"Stable Diffusion autoencoder {latents / 1e6:,.0f} MB); `{folder}` has {free / 1e6:,.0f} "
        f"MB free{verdict}"
    )
