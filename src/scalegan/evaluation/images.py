"""What is evaluated and what with: runs, folders, archives and shards, all as streams of images.

Nothing is held in memory but a batch, and nothing touches the disk. Each rank takes its share.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from scalegan.autoencoders.tables import AUTOENCODERS
from scalegan.config import reading as configs
from scalegan.config.schema import AutoencoderConfig
from scalegan.data import arrays, images
from scalegan.data.shards import Shards
from scalegan.data.sources import Source, open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import Shown
from scalegan.inference.sampling import sample
from scalegan.inference.snapshot import GAN, load, newest
from scalegan.interfaces import Labels
from scalegan.runtime.files import digest
from scalegan.runtime.rng import stream
from scalegan.runtime.world import World

BALANCED, UNIFORM, LIKE_REFERENCE = "balanced", "uniform", "reference"
AS_STORED = "8 bits as stored"
DECODED = "nearest (at decoding)"
MOST_HELD = 10_000_000
"""More sources than this are not counted before they are read."""


@dataclass(frozen=True)
class Drawing:
    """How images of a generator are drawn, and how many of any input are looked at."""

    num: int = 0
    """0 = all there are; of a generator, 10,000."""
    size: int = 0
    """Side to crop images to; 0 = as they are."""
    seed: int = 0
    """The first image's; of images, of the choice."""
    truncation: float | None = None
    """None = none."""
    guidance: float = 1.0
    classes: str = BALANCED
    batch_size: int = 64
    device: str = "cpu"
    only: tuple[int, ...] = ()
    """Places of images to look at, and no others; empty = as `num` says."""


DEFAULT_NUM = 10_000


@dataclass
class Stream:
    """Labelled images that can be read once, and what is known of them."""

    batches: Iterator[Shown]
    """This rank's."""
    class_names: list[str]
    about: dict[str, Any]
    """For the protocol."""
    count: int | None
    """Over all ranks, if it is known."""
    notes: list[str] = field(default_factory=list)
    """Filled while it is read."""


def open_stream(text: str, drawing: Drawing, world: World, like: Labels | None = None) -> Stream:
    """A run, a snapshot, shards, an .npz file or any source, as a stream.

    Args:
        like: labels whose frequencies a generator's classes follow, where `drawing` says so.

    Raises:
        CheckpointError, ConfigError, DataError: if it cannot be read.
    """
    path = Path(text)
    if is_model(path):
        return _generated(path, drawing, world, like)
    if (path / "manifest.json").is_file() and (path / "shard-00000").is_dir():
        return _shards(path, drawing, world)
    if text.removeprefix("npz:").endswith(".npz") and not Path(text).is_dir():
        return _archive(Path(text.removeprefix("npz:")), drawing, world)
    return _source(text, drawing, world)


def is_model(path: Path) -> bool:
    """Whether it is a run or a snapshot."""
    is_snapshot = (path / "config.json").is_file() and (path / "generator.safetensors").is_file()
    return is_snapshot or (path / "snapshots").is_dir()


def data_of(run: Path) -> tuple[str, int]:
    """Source or shards that a run was trained on, and the side that it was cropped to.

    Raises:
        ConfigError: if it is a snapshot, which does not know.
    """
    if not (run / "config.toml").is_file():
        raise ConfigError(f"`{run}` does not say what it was trained on", "name it: --against DATA")
    data = configs.read(str(run / "config.toml")).data
    return data.shards or data.source, data.size


def labels_of(
    count: int, classes: int, drawing: Drawing, like: Int64[Tensor, " M"] | None
) -> Labels:
    """The class of each image, a function of its seed; -1 where there are no classes.

    Raises:
        ConfigError: if the classes of a reference are to be followed and there are none.
    """
    seeds = range(drawing.seed, drawing.seed + count)
    if not classes:
        return torch.full((count,), -1)
    if drawing.classes == BALANCED:
        return torch.tensor([seed % classes for seed in seeds])
    weights = torch.ones(classes)
    if drawing.classes == LIKE_REFERENCE:
        if like is None:
            raise ConfigError("`--classes reference` needs a reference with classes")
        weights = torch.bincount(like, minlength=classes).float()
    edges = (weights / weights.sum()).cumsum(0)
    draws = [torch.rand(1, generator=stream("label", seed)).item() for seed in seeds]
    return torch.searchsorted(edges, torch.tensor(draws)).clamp(max=classes - 1)


def _generated(path: Path, drawing: Drawing, world: World, like: Labels | None) -> Stream:
    gan = load(path, str(world.device))
    count = drawing.num or DEFAULT_NUM
    names = gan.card.class_names
    labels = labels_of(count, len(names), drawing, like)
    about = {
        "kind": "generated",
        "snapshot": str(newest(path)),
        "weights": digest(newest(path) / "generator.safetensors"),
        "average": "moving average of training",
        "step": gan.card.step,
        "seeds": [drawing.seed, drawing.seed + count - 1],
        "noise": "normal, a stream of its own per seed",
        "classes": drawing.classes,
        "truncation": drawing.truncation,
        "guidance": drawing.guidance,
        "autoencoder": gan.autoencoder.identity(),
        "rounding": DECODED,
        "requested": count,
    }
    return Stream(draw(gan, labels, drawing, world), names, about, count)


def draw(gan: GAN, labels: Labels, drawing: Drawing, world: World) -> Iterator[Shown]:
    """This rank's batches of a generator's images."""
    for positions in _shares(len(labels), drawing.batch_size, world):
        seeds = (positions + drawing.seed).tolist()
        drawn = sample(
            gan.at(drawing.truncation), gan.autoencoder, seeds, labels[positions],
            drawing.truncation, drawing.guidance, len(seeds),
        )  # fmt: skip
        yield Shown(next(drawn), labels[positions], positions)


def _shares(count: int, batch_size: int, world: World) -> Iterator[torch.Tensor]:
    yield from torch.arange(count)[world.rank :: world.size].split(batch_size)


def _shards(path: Path, drawing: Drawing, world: World) -> Stream:
    plain = Shards(path)
    has_images = plain.manifest["keep_images"]
    shards = Shards(path, with_images=True) if has_images else plain
    about = shards.manifest
    side = about["side"]
    if drawing.size not in (0, side):
        raise ConfigError(f"the shards `{path}` hold images of {side}, not {drawing.size}")
    config = configs.parse_part(AutoencoderConfig, about["autoencoder"]["config"], "autoencoder.")
    # Mirror images are rows of their own; images are looked at once.
    rows = torch.arange(0, len(shards), shards.copies)
    chosen = _choose(len(rows), drawing)
    rows = rows if chosen is None else rows[chosen]

    def read() -> Iterator[Shown]:
        make = configs.choose(AUTOENCODERS, config.kind, "autoencoder.kind")
        autoencoder = None if has_images else make(config, about["channels"], side)
        for positions in _shares(len(rows), drawing.batch_size, world):
            batch = shards.read(rows[positions])
            found = batch.images
            if autoencoder is not None:
                found = autoencoder.decode(autoencoder.sample(batch.stored)).cpu()
            assert found is not None
            yield Shown(found, batch.labels, positions)

    is_pixels = about["autoencoder"]["config"]["kind"] == "identity"
    return Stream(
        read(),
        about["class_names"],
        {
            "kind": "shards",
            "path": str(path),
            "what": "kept images" if has_images or is_pixels else "decoded latents",
            "crop": about["crop"],
            "rounding": AS_STORED if has_images or is_pixels else DECODED,
            "classes": "as they are",
            "requested": len(rows),
        },
        len(rows),
    )


def _archive(path: Path, drawing: Drawing, world: World) -> Stream:
    about = arrays.headers(path).get(arrays.IMAGES)
    if about is None:
        raise DataError(f"`{path}` holds no images: there is no `{arrays.IMAGES}`")
    count = about.shape[0] if about.shape else 0
    labels = arrays.read_labels(path, count)
    chosen = _choose(count, drawing)
    wanted = None if chosen is None else set(chosen.tolist())

    def read() -> Iterator[Shown]:
        first = 0
        for batch in arrays.read_images(path, drawing.batch_size):
            places = torch.arange(first, first + len(batch))
            first += len(batch)
            own_share = [place % world.size == world.rank for place in places.tolist()]
            chose = [wanted is None or place in wanted for place in places.tolist()]
            keep = torch.tensor(own_share) & torch.tensor(chose)
            if keep.any():
                own = torch.full_like(places, -1) if labels is None else labels[places]
                shown = _cropped(batch[keep], drawing.size)
                yield Shown(shown, own[keep], places[keep])

    names = [] if labels is None else [str(i) for i in range(int(labels.max()) + 1)]
    facts: dict[str, Any] = {"kind": "npz", "path": str(path), "crop": _crop_rule(drawing.size)}
    num = count if chosen is None else len(chosen)
    facts |= {"rounding": AS_STORED, "classes": "as they are", "requested": num}
    return Stream(read(), names, facts, num)


def _source(text: str, drawing: Drawing, world: World) -> Stream:
    source = open_source(text, SOURCES)
    known = source.num_items if source.num_items and source.num_items < MOST_HELD else None
    chosen = None if known is None and not drawing.only else _choose(known or 0, drawing)
    notes: list[str] = []
    if known is None and drawing.num:
        notes.append(f"`{text}` does not say how many images it holds: the first are taken")
    count = len(chosen) if chosen is not None else known
    facts: dict[str, Any] = {"kind": "images", "path": text, "crop": _crop_rule(drawing.size)}
    facts |= {"rounding": AS_STORED, "classes": "as they are", "requested": drawing.num or count}
    batches = _decoded(source, text, drawing, world, chosen, notes)
    return Stream(batches, source.class_names, facts, count, notes)


class _Row(NamedTuple):
    image: np.ndarray
    label: int
    position: int


def _decoded(
    source: Source,
    text: str,
    drawing: Drawing,
    world: World,
    chosen: torch.Tensor | None,
    notes: list[str],
) -> Iterator[Shown]:
    """Decode this rank's share; images that cannot be read are left out and counted."""
    wanted = None if chosen is None else set(chosen.tolist())
    rows: list[_Row] = []
    num_bad, num_taken = 0, 0
    for position, item in enumerate(source.items):
        if wanted is not None and position not in wanted:
            continue
        if wanted is None and drawing.num and num_taken == drawing.num:
            break
        num_taken += 1
        if position % world.size != world.rank:
            continue
        try:
            rows.append(_Row(images.load(item.image, drawing.size or None), item.label, position))
        except images.NotSquare as error:
            raise DataError(f"image `{item.key}` of `{text}` {error}", "--size 64 crops") from None
        except images.BadImage:
            num_bad += 1
        if len(rows) == drawing.batch_size:
            yield _stack(rows, text)
            rows = []
    if rows:
        yield _stack(rows, text)
    if num_bad or source.problems:
        left_out = num_bad + len(source.problems)
        notes.append(f"{left_out:,} images or labels of `{text}` cannot be used and are left out")


def _stack(rows: list[_Row], text: str) -> Shown:
    sides = {row.image.shape[-1] for row in rows}
    if len(sides) > 1:
        raise DataError(f"images of `{text}` are of sides {sorted(sides)}", "--size 64 crops")
    labels = torch.tensor([row.label for row in rows])
    positions = torch.tensor([row.position for row in rows])
    return Shown(torch.from_numpy(np.stack([row.image for row in rows])), labels, positions)


def _choose(count: int, drawing: Drawing) -> torch.Tensor | None:
    """Given places, or a random choice of `num`, in order; None: all.

    Raises:
        DataError: if there are not so many.
    """
    if drawing.only:
        return torch.tensor(sorted(drawing.only))
    if drawing.num > count:
        raise DataError(
            f"there are {count:,} images but {drawing.num:,} are asked for", "lower --num"
        )
    if drawing.num in (0, count):
        return None
    order = torch.randperm(count, generator=stream(drawing.seed, "choice"))
    return order[: drawing.num].sort().values


def _cropped(batch: torch.Tensor, size: int) -> torch.Tensor:
    if size in (0, batch.shape[-1]):
        return batch
    rows = [images.load(np.ascontiguousarray(i.permute(1, 2, 0).numpy()), size) for i in batch]
    return torch.from_numpy(np.stack(rows))


def _crop_rule(size: int) -> str:
    return f"ADM's, to {size}" if size else "none"


def is_unnamed(names: list[str]) -> bool:
    """Whether classes are numbers alone, as archives have them."""
    return names == [str(i) for i in range(len(names))]


def translate(names: list[str], onto: list[str], what: str) -> Callable[[Labels], Labels]:
    """A function from labels of one list of classes to those of another.

    Raises:
        DataError: if a class has no counterpart.
    """
    if names == onto or (is_unnamed(names) and len(names) <= len(onto)) or is_unnamed(onto):
        return lambda labels: labels
    missing = [name for name in names if name not in onto]
    if missing:
        raise DataError(
            f"class `{missing[0]}` of the samples is none of {what}",
            "compare data with the same classes, or metrics that need none",
        )
    table = torch.tensor([onto.index(name) for name in names])
    return lambda labels: table[labels] if (labels >= 0).all() else labels
