"""`scalegan evaluate`, `diff` and `statistics`: two sides, networks and metrics put together."""

import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from scalegan.data.arrays import ArrayWriter
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import Collector, Seen, Shown
from scalegan.evaluation.images import (
    Drawing,
    Stream,
    data_of,
    is_model,
    open_stream,
    translate,
)
from scalegan.evaluation.measure import Context, Number, kinds_of, measure
from scalegan.evaluation.networks import open_networks
from scalegan.evaluation.protocol import label_of, refuse_unlike
from scalegan.evaluation.statistics_file import (
    has_images,
    is_statistics,
    load_reference,
    save_reference,
)
from scalegan.evaluation.tables import METRIC_GROUPS, METRICS
from scalegan.inference.snapshot import newest, read_card
from scalegan.interfaces import FeatureNetwork, Labels
from scalegan.runtime.files import atomic_file, read_json, write_json
from scalegan.runtime.image_files import save_png, to_pil
from scalegan.runtime.progress import Bar
from scalegan.runtime.world import World

FORMAT = 1
SPREADS = (("standard_error", "se"), ("std", "std"))
"""What is shown of a spread: the error of the value if it is known, else the deviation."""


def metric_names(text: str) -> list[str]:
    """Names of metrics, groups spelled out.

    Raises:
        ConfigError: for an unknown one.
    """
    names: list[str] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        if part not in METRICS and part not in METRIC_GROUPS:
            raise ConfigError(
                f"there is no metric `{part}`", f"some of {', '.join([*METRICS, *METRIC_GROUPS])}"
            )
        names += [n for n in METRIC_GROUPS.get(part, (part,)) if n not in names]
    if not names:
        raise ConfigError("no metric is named", f"some of {', '.join([*METRICS, *METRIC_GROUPS])}")
    return names


def evaluate(
    what: str,
    against: str,
    metrics: str,
    features: str,
    drawing: Drawing,
    world: World,
    keep: Path | None = None,
    with_floor: bool = False,
    tell: Callable[[str], None] = print,
) -> list[Number]:
    """Compare one side's images with a reference.

    Args:
        what: a run, a snapshot, or images that lie somewhere.
        against: images or a file of statistics; empty = what the run was trained on.
        metrics: names separated by commas.
        features: feature networks; empty = Inception where its file is.
        drawing: how `what` is drawn; size and batch size hold for both sides.
        keep: a folder or .npz file to keep the images in.
        with_floor: whether each number is measured on two halves of the reference too.

    Raises:
        CheckpointError, ConfigError, DataError: see their sentences.
    """
    names = metric_names(metrics)
    comparison = Comparison(what, against, names, features, drawing, world, with_floor, tell)
    fake, context = comparison.look(comparison.drawing, keep)
    return measure(names, METRICS, comparison.networks, comparison.real, fake, context, with_floor)


class Comparison:
    """A reference, looked at once, and images to compare with it, drawn as often as need be.

    Args: see `evaluate`.

    Raises:
        CheckpointError, ConfigError, DataError: see their sentences.
    """

    def __init__(
        self,
        what: str,
        against: str,
        names: list[str],
        features: str,
        drawing: Drawing,
        world: World,
        with_floor: bool = False,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.what, self.world, self.tell = what, world, tell
        self.chosen = [METRICS[name] for name in names]
        self.networks = networks_for(what, features, world)
        needs_real = any(k.startswith("real.") for metric in self.chosen for k in metric.takes)
        if not against and needs_real:
            against, size = data_of(Path(what))
            drawing = replace(drawing, size=drawing.size or size)
        if against and is_model(Path(what)) and not drawing.size and not is_model(Path(against)):
            drawing = replace(drawing, size=side_of(Path(what)))
        self.against, self.drawing = against, drawing
        self.real: Seen | None = None
        self.real_names: list[str] = []
        if against and needs_real:  # before the first image is drawn: a missing one costs nothing
            kinds = kinds_of(self.chosen, "real", with_floor)
            self.real, self.real_names = look_at(
                against, self.networks, kinds, replace(drawing, num=0), world, tell
            )

    def look(self, drawing: Drawing, keep: Path | None = None) -> tuple[Seen, Context]:
        """The images, drawn in some way, and what metrics take beside the two sides."""
        like = None if self.real is None else next(iter(self.real.sides.values())).labels
        stream = open_stream(self.what, drawing, self.world, like)
        if keep:
            stream.batches = kept(stream.batches, stream.count, keep, self.world)
        fake = look(stream, self.networks, kinds_of(self.chosen, "fake"), self.world, self.tell)
        needs_labels = any(k.endswith(".labels") for metric in self.chosen for k in metric.takes)
        class_names = (
            align(stream.class_names, fake, self.real_names, self.networks) if needs_labels else []
        )
        return fake, Context(len(class_names), drawing.seed)


def networks_for(what: str, features: str, world: World) -> Mapping[str, FeatureNetwork]:
    """The networks that are named; else the classifier that a run has trained, else Inception.

    Raises:
        ConfigError: if one is not to be had.
    """
    classifier = Path(what) / "classifier"
    if not features and (classifier / "classifier.json").is_file():
        features = f"classifier:{classifier}"
    try:
        return open_networks(features or "inception", world.device)
    except ConfigError as error:
        if features:
            raise
        raise ConfigError(
            f"no --features are named, and {error}",
            f"{error.hint}; without any download: `scalegan classifier train SOURCE OUT`, then "
            "--features classifier:OUT",
        ) from None


def side_of(path: Path) -> int:
    """Side of a generator's images."""
    card = read_card(newest(path))
    factor = card.identity.get("factor", 1 if card.autoencoder.kind == "identity" else 8)
    return int(card.shape[1] * factor)


def look_at(
    text: str,
    networks: Mapping[str, FeatureNetwork],
    kinds: set[str],
    drawing: Drawing,
    world: World,
    tell: Callable[[str], None],
) -> tuple[Seen, list[str]]:
    """A reference of any kind, and its class names."""
    if not is_statistics(text):
        stream = open_stream(text, drawing, world)
        return look(stream, networks, kinds, world, tell), stream.class_names
    path, sides = Path(text), {}
    about: dict[str, Any] = {}
    for name, network in networks.items():
        sides[name], about = load_reference(path, network)
    if has_images(path) and kinds - {"moments", "spatial"}:
        some = look(open_stream(text, drawing, world), networks, kinds - {"moments", "spatial"},
                    world, tell)  # fmt: skip
        for name, side in sides.items():
            sides[name] = replace(some.sides[name], moments=side.moments, spatial=side.spatial)
        about |= {"num_images": some.count, "side": some.about["side"]}
    return Seen(sides, about), about.get("class_names", [])


def look(
    stream: Stream,
    networks: Mapping[str, FeatureNetwork],
    kinds: set[str],
    world: World,
    tell: Callable[[str], None],
) -> Seen:
    """One pass over a stream, with progress."""
    collector = Collector(networks, kinds, world.device)
    total = None if stream.count is None else -(-stream.count // world.size)
    with Bar(total, "images", is_shown=world.is_first) as bar:
        for shown in stream.batches:
            collector.add(shown)
            bar.advance(len(shown.images))
    seen = collector.finish(world, **stream.about)
    seen.about["class_names"] = stream.class_names
    for note in stream.notes:
        if world.is_first:
            tell(f"notice: {note}")
    return seen


def align(
    class_names: list[str],
    fake: Seen,
    real_names: list[str],
    networks: Mapping[str, FeatureNetwork],
) -> list[str]:
    """Bring the samples' labels to the classes of the reference, or of the classifiers.

    Returns:
        The classes.
    """
    known = [network.identity().get("classes") for network in networks.values()]
    lists = [names for names in [real_names, *known] if names]
    for names in lists:
        translate(class_names, names, "the reference's or the classifier's")
    if not lists or not class_names:
        return class_names
    onto = max(lists, key=len)
    change: Callable[[Labels], Labels] = translate(class_names, onto, "the reference's")
    for side in fake.sides.values():
        side.labels = None if side.labels is None else change(side.labels)
    return onto


def kept(batches: Iterator[Shown], count: int | None, path: Path, world: World) -> Iterator[Shown]:
    """Pass images on and keep them: NAME.npz, or a folder of PNGs.

    Raises:
        ConfigError: if an archive is to be written by several processes.
    """
    if path.suffix != ".npz":
        for shown in batches:
            for image, label, place in zip(*shown, strict=True):
                save_png(to_pil(image), path / f"{int(place):06d}-{int(label)}.png")
            yield shown
        return
    if world.size > 1 or count is None:
        raise ConfigError("an .npz file is written by one process that knows how many images come",
                          "name a folder instead: --keep DIR")  # fmt: skip
    labels: list[Labels] = []
    with ExitStack() as stack:
        draft = stack.enter_context(atomic_file(path))
        writer: ArrayWriter | None = None
        for shown in batches:
            writer = writer or ArrayWriter(draft, count, shown.images.shape[-1])
            writer.append(shown.images)
            labels.append(shown.labels)
            yield shown
        if writer:
            writer.close(torch.cat(labels))


def make_reference(
    source: str, out: Path, features: str, drawing: Drawing, with_bank: bool, world: World,
    tell: Callable[[str], None] = print,
) -> list[str]:  # fmt: skip
    """Write a source's statistics into a file; lines for people."""
    networks = networks_for(source, features, world)
    if len(networks) > 1:
        raise ConfigError("a reference is of one feature network", "make one file for each")
    kinds = {"moments", "spatial"} | ({"bank", "labels", "logits"} if with_bank else set())
    seen = look(open_stream(source, drawing, world), networks, kinds, world, tell)
    (network,) = networks.values()
    if world.is_first:
        save_reference(out, seen, network)
    identity = network.identity()
    return [
        f"{seen.count:,} images of `{source}` in the features of {label_of(identity)}: `{out}`",
        f"next: scalegan evaluate RUN --against {out} --features {next(iter(networks))}",
    ]


def write_result(path: Path, numbers: list[Number]) -> None:
    """All numbers with their protocols as JSON."""
    about = {
        "format": FORMAT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "precision": "float32 in networks, float64 in metrics",
        "numbers": [asdict(number) for number in numbers],
    }
    with atomic_file(path) as draft:
        write_json(draft, json.loads(json.dumps(about, default=str)))


def read_result(path: Path) -> list[Number]:
    """What `write_result` wrote.

    Raises:
        DataError: if it is not that.
    """
    try:
        found = read_json(path)["numbers"]
        return [Number(**number | {"marks": tuple(number["marks"])}) for number in found]
    except FileNotFoundError:
        raise DataError(
            f"there is no result `{path}`", "`scalegan evaluate --out` makes one"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"`{path}` is no result of `scalegan evaluate`: {error}") from None


def table(numbers: list[Number]) -> list[str]:
    """Lines for people."""
    rows: list[tuple[str, ...]] = [
        ("", "value", "spread", "real images", "N real", "N generated", "fingerprint")
    ]
    for number in numbers:
        known = [(number.spread[key], name) for key, name in SPREADS if key in number.spread]
        spread = f"{figure(known[0][0])} {known[0][1]}" if known else "-"
        rows.append((
            number.title, figure(number.value), spread, figure(number.floor),
            f"{number.num_real:,}" if number.num_real else "-", f"{number.num_fake:,}",
            number.fingerprint,
        ))  # fmt: skip
    if all(number.floor is None for number in numbers):
        rows = [(*row[:3], *row[4:]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                       for i, (c, w) in enumerate(zip(row, widths, strict=True)))
             for row in rows]  # fmt: skip
    lines += [line for number in numbers for line in worst(number)]
    marks = dict.fromkeys(f"notice: {m}" for number in numbers for m in number.marks)
    return [*lines, *marks]


def worst(number: Number, count: int = 5) -> list[str]:
    """A line with the classes that are furthest from the real ones, where classes were measured."""
    distances = number.details.get("distances")
    if not isinstance(distances, dict):
        return []
    names = number.protocol["samples"].get("class_names") or []
    by_distance = sorted(distances, key=lambda label: -distances[label])
    texts = [
        f"{names[label] if label < len(names) else label} {figure(distances[label])}"
        for label in by_distance
    ]
    best = ", ".join(texts[count:][-count:])
    return [f"worst classes: {', '.join(texts[:count])}" + (f"; best: {best}" if best else "")]


def compare(first: Path, second: Path) -> list[str]:
    """Two results side by side.

    Raises:
        ConfigError: if they are not comparable, naming what differs.
    """
    a, b = ({n.name: n for n in read_result(path)} for path in (first, second))
    shared = [name for name in a if name in b]
    if not shared:
        raise ConfigError(f"`{first}` and `{second}` have no metric in common")
    rows: list[tuple[str, ...]] = [("", first.name, second.name, "difference")]
    for name in shared:
        refuse_unlike(name, a[name].protocol, b[name].protocol)
        values = a[name].value, b[name].value
        gap = None if None in values else values[1] - values[0]  # type: ignore[operator]
        rows.append((a[name].title, *map(figure, values), figure(gap)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows]  # fmt: skip


def figure(value: float | None) -> str:
    """Four digits of a number, for people."""
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
