"""Runs, snapshots, folders, archives and shards as streams of labeled images.

Nothing is held in memory but a batch, and nothing touches the disk. Each rank takes its share.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from scalegan.autoencoders.tables import make_autoencoder
from scalegan.config import reading as configs
from scalegan.config.schema import AutoencoderConfig
from scalegan.data import arrays, images
from scalegan.data.shards import Shards
from scalegan.data.sources import Source, SourceImage, open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import LabeledBatch
from scalegan.inference.gan import load
from scalegan.inference.sampling import labels_for, stream_images
from scalegan.inference.snapshot import newest
from scalegan.interfaces import Autoencoder, Generator, Labels
from scalegan.runtime.files import digest
from scalegan.runtime.rng import stream
from scalegan.runtime.world import World

BALANCED, UNIFORM, LIKE_REFERENCE = "balanced", "uniform", "reference"
AS_STORED = "8 bits as stored"
DECODED = "nearest (at decoding)"
MOST_HELD = 10_000_000
"""Of more images than this the first are taken, instead of a random choice."""
DEFAULT_NUM = 10_000
"""Generated images, if no number is given."""


@dataclass(frozen=True)
class ImageOptions:
    """Which images are read, or how they are generated."""

    num: int = 0
    """Number of images; 0 = all there are, of a generator 10,000."""
    size: int = 0
    """Side that images are cropped to, in pixels; 0 = as they are."""
    seed: int = 0
    """Seed of the first generated image; of other images, seed of the random choice of `num`."""
    truncation: float | None = None
    """Psi, or for BigGAN the threshold of the noise; None = none."""
    guidance: float = 1.0
    """1 = none."""
    classes: str = BALANCED
    """Classes of generated images: in turn, at random, or as often as in the reference."""
    batch_size: int = 64
    only: tuple[int, ...] = ()
    """Positions of the images to read, and no others; empty = as `num` says."""


@dataclass
class ImageStream:
    """Labeled images that can be read once, and what is known of them."""

    batches: Iterator[LabeledBatch]
    """This rank's."""
    class_names: list[str]
    about: dict[str, Any]
    """For the protocol."""
    count: int | None
    """Over all ranks, if it is known."""
    notes: list[str] = field(default_factory=list)
    """What a user should know of images that were left out; filled while it is read."""


def open_stream(
    text: str, options: ImageOptions, world: World, like: Labels | None = None
) -> ImageStream:
    """Open a run, a snapshot, shards, an .npz file or any source as a stream of images.

    Args:
        like: labels whose frequencies the classes of generated images follow, if `options` say so.

    Raises:
        CheckpointError, ConfigError, DataError: if it cannot be read.
    """
    path = Path(text)
    if is_model(path):
        return _generated(path, options, world, like)
    if (path / "manifest.json").is_file() and (path / "shard-00000").is_dir():
        return _shards(path, options, world)
    if text.removeprefix("npz:").endswith(".npz") and not path.is_dir():
        path = Path(text.removeprefix("npz:"))
        return _decoded("npz", str(path), _archive(path), options, world)
    return _decoded("images", text, open_source(text, SOURCES), options, world)


def is_model(path: Path) -> bool:
    """Whether it is a run, a snapshot, or a generator that comes with the package."""
    if str(path).startswith("pretrained:"):
        return True
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


def sampled_labels(
    count: int, num_classes: int, options: ImageOptions, like: Int64[Tensor, " M"] | None
) -> Labels:
    """The class of each image, a function of its seed; -1 where there are no classes.

    Raises:
        ConfigError: if the classes of a reference are to be followed and there are none.
    """
    seeds = range(options.seed, options.seed + count)
    if not num_classes:
        return torch.full((count,), -1)
    if options.classes == BALANCED:
        return labels_for(seeds, range(num_classes))
    weights = torch.ones(num_classes)
    if options.classes == LIKE_REFERENCE:
        if like is None:
            raise ConfigError("`--classes reference` needs a reference with classes")
        weights = torch.bincount(like, minlength=num_classes).float()
    edges = (weights / weights.sum()).cumsum(0)
    draws = [torch.rand(1, generator=stream("label", seed)).item() for seed in seeds]
    return torch.searchsorted(edges, torch.tensor(draws)).clamp(max=num_classes - 1)


def sampled_batches(
    generator: Generator,
    autoencoder: Autoencoder,
    labels: Labels,
    options: ImageOptions,
    world: World,
) -> Iterator[LabeledBatch]:
    """Generate this rank's share of the images of consecutive seeds, one for each label.

    Args:
        generator: calibrated for the truncation.
    """
    positions = torch.arange(len(labels))[world.rank :: world.size]
    batches = stream_images(
        generator,
        autoencoder,
        (positions + options.seed).tolist(),
        labels[positions],
        options.truncation,
        options.guidance,
        options.batch_size,
    )
    for part, drawn in zip(positions.split(options.batch_size), batches, strict=False):
        yield LabeledBatch(drawn, labels[part], part)


def sampled_about(options: ImageOptions, count: int, autoencoder: Autoencoder) -> dict[str, Any]:
    """The protocol of generated images, less the weights that they are of."""
    return {
        "kind": "generated",
        "average": "moving average of training",
        "seeds": [options.seed, options.seed + count - 1],
        "noise": "normal, a stream of its own per seed",
        "classes": options.classes,
        "truncation": options.truncation,
        "guidance": options.guidance,
        "autoencoder": autoencoder.identity(),
        "rounding": DECODED,
        "requested": count,
    }


def _generated(path: Path, options: ImageOptions, world: World, like: Labels | None) -> ImageStream:
    gan = load(path, str(world.device))
    count, names = options.num or DEFAULT_NUM, gan.card.class_names
    labels = sampled_labels(count, len(names), options, like)
    about = sampled_about(options, count, gan.autoencoder) | {
        "snapshot": str(newest(path)),
        "weights": digest(newest(path) / "generator.safetensors"),
        "step": gan.card.step,
    }
    generator = gan.at(options.truncation)
    batches = sampled_batches(generator, gan.autoencoder, labels, options, world)
    return ImageStream(batches, names, about, count)


def _shards(path: Path, options: ImageOptions, world: World) -> ImageStream:
    shards = Shards(path)
    about, has_images = shards.manifest, shards.manifest["keep_images"]
    if has_images:
        shards = Shards(path, with_images=True)
    side = about["side"]
    if options.size not in (0, side):
        raise ConfigError(f"the shards `{path}` hold images of {side}, not {options.size}")
    config = configs.parse_part(AutoencoderConfig, about["autoencoder"]["config"], "autoencoder.")
    # Mirrored copies are rows of their own and are left out.
    rows = torch.arange(0, len(shards), shards.copies)
    chosen = _choose(len(rows), options)
    rows = rows if chosen is None else rows[chosen]

    def read() -> Iterator[LabeledBatch]:
        autoencoder = None if has_images else make_autoencoder(config, about["channels"], side)
        own = torch.arange(len(rows))[world.rank :: world.size]
        for positions in own.split(options.batch_size):
            batch = shards.read(rows[positions])
            found = batch.images
            if autoencoder is not None:
                found = autoencoder.decode(autoencoder.sample(batch.stored)).cpu()
            assert found is not None
            yield LabeledBatch(found, batch.labels, positions)

    is_exact = has_images or config.kind == "identity"
    facts = {
        "kind": "shards",
        "path": str(path),
        "what": "kept images" if is_exact else "decoded latents",
        "crop": about["crop"],
        "rounding": AS_STORED if is_exact else DECODED,
        "classes": "as they are",
        "requested": len(rows),
    }
    return ImageStream(read(), about["class_names"], facts, len(rows))


def _archive(path: Path) -> Source:
    """The images of an .npz file of any size, which are read in batches; -1 without labels."""
    about = arrays.headers(path).get(arrays.IMAGES)
    if about is None:
        raise DataError(f"`{path}` holds no images: there is no `{arrays.IMAGES}`")
    count = about.shape[0] if about.shape else 0
    labels = arrays.read_labels(path, count)

    def read() -> Iterator[SourceImage]:
        batches = arrays.read_images(path, 64)
        for i, image in enumerate(image for batch in batches for image in batch):
            label = -1 if labels is None else int(labels[i])
            yield SourceImage(str(i), image.permute(1, 2, 0).contiguous().numpy(), label)

    names = [] if labels is None else [str(i) for i in range(int(labels.max()) + 1)]
    return Source(read, names, count)


def _decoded(
    kind: str, path: str, source: Source, options: ImageOptions, world: World
) -> ImageStream:
    known = source.num_images if source.num_images and source.num_images < MOST_HELD else None
    chosen = None if known is None and not options.only else _choose(known or 0, options)
    notes: list[str] = []
    if known is None and options.num:
        notes.append(f"`{path}` does not say how many images it holds: the first are taken")
    count = len(chosen) if chosen is not None else known
    facts = {
        "kind": kind,
        "path": path,
        "crop": f"ADM's, to {options.size}" if options.size else "none",
        "rounding": AS_STORED,
        "classes": "as they are",
        "requested": options.num or count,
    }

    def read() -> Iterator[LabeledBatch]:
        """This rank's share; images that cannot be read are left out and counted."""
        wanted = None if chosen is None else set(chosen.tolist())
        rows: list[tuple[np.ndarray, int, int]] = []
        num_bad, num_taken = 0, 0
        for position, item in enumerate(source):
            if wanted is not None and position not in wanted:
                continue
            if wanted is None and options.num and num_taken == options.num:
                break
            num_taken += 1
            if position % world.size != world.rank:
                continue
            try:
                rows.append((images.load_image(item.image, options.size), item.label, position))
            except images.NotSquare as error:
                raise DataError(
                    f"image `{item.key}` of `{path}` {error}", "--size 64 crops"
                ) from None
            except images.BadImage:
                num_bad += 1
            if len(rows) == options.batch_size:
                yield _stack(rows, path)
                rows = []
        if rows:
            yield _stack(rows, path)
        if left_out := num_bad + len(source.problems):
            notes.append(
                f"{left_out:,} images or labels of `{path}` cannot be used and are left out"
            )

    return ImageStream(read(), source.class_names, facts, count, notes)


def _stack(rows: list[tuple[np.ndarray, int, int]], path: str) -> LabeledBatch:
    """A batch of (image, label, position)."""
    found, labels, positions = zip(*rows, strict=True)
    sides = {image.shape[-1] for image in found}
    if len(sides) > 1:
        raise DataError(f"images of `{path}` are of sides {sorted(sides)}", "--size 64 crops")
    stacked = torch.from_numpy(np.stack(found))
    return LabeledBatch(stacked, torch.tensor(labels), torch.tensor(positions))


def _choose(count: int, options: ImageOptions) -> Tensor | None:
    """Given places, or a random choice of `num`, in order; None: all."""
    if options.only:
        return torch.tensor(sorted(options.only))
    if options.num > count:
        raise DataError(
            f"there are {count:,} images but {options.num:,} are asked for", "lower --num"
        )
    if options.num in (0, count):
        return None
    order = torch.randperm(count, generator=stream(options.seed, "choice"))
    return order[: options.num].sort().values


def translate(names: list[str], onto: list[str], what: str) -> Callable[[Labels], Labels]:
    """A function from labels of one list of classes to those of another.

    Raises:
        DataError: if a class has no counterpart.
    """

    def is_unnamed(classes: list[str]) -> bool:  # numbers alone, as archives have them
        return classes == [str(i) for i in range(len(classes))]

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
