"""Evaluation of generated images against a reference: streams, feature networks and metrics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from scalegan.data.arrays import ArrayWriter
from scalegan.errors import ConfigError
from scalegan.evaluation.collect import Collector, Field, ImageSet, LabeledBatch, Networks
from scalegan.evaluation.images import (
    ImageOptions,
    ImageStream,
    data_of,
    is_model,
    open_stream,
    translate,
)
from scalegan.evaluation.measure import Metric, Number, fields_of, measure
from scalegan.evaluation.protocol import label_of
from scalegan.evaluation.statistics_file import (
    has_images,
    is_statistics,
    load_statistics,
    save_statistics,
)
from scalegan.evaluation.tables import named_metrics
from scalegan.features.tables import open_networks
from scalegan.inference.snapshot import image_side, newest, read_card
from scalegan.interfaces import Labels
from scalegan.runtime.files import atomic_file
from scalegan.runtime.image_files import save_png, to_pil
from scalegan.runtime.progress import follow
from scalegan.runtime.world import World


@dataclass(frozen=True)
class Request:
    """What is evaluated against what, and how."""

    what: str
    """A run, a snapshot, or a source of images."""
    against: str = ""
    """Images, or a file of statistics; empty = what the run was trained on."""
    metrics: str = "fid,prdc"
    """Names separated by commas."""
    features: str = ""
    """Feature networks separated by commas; empty = the run's classifier, else Inception."""
    options: ImageOptions = field(default_factory=ImageOptions)
    """Of `what`; size and batch size hold for the reference too."""
    with_floor: bool = False
    """Whether each number is computed on two halves of the reference too."""


def evaluate(request: Request, world: World, keep: Path | None = None) -> list[Number]:
    """Compare images with a reference.

    Args:
        keep: a folder or .npz file to store the images in.

    Raises:
        CheckpointError, ConfigError, DataError: if images, weights or a metric are unusable.
    """
    evaluation = Evaluation(request, world)
    fake = evaluation.collect(evaluation.options, keep)
    return evaluation.measure(evaluation.metrics, fake, request.with_floor)


class Evaluation:
    """A reference, read once, and images to compare with it, drawn as often as need be."""

    def __init__(self, request: Request, world: World) -> None:
        self.what, self.world = request.what, world
        self.metrics = named_metrics(request.metrics)
        self.networks = networks_for(request.what, request.features, world)
        against, options = request.against, request.options
        needs_real = any(metric.real for metric in self.metrics.values())
        if not against and needs_real:
            against, size = data_of(Path(self.what))
            options = replace(options, size=options.size or size)
        if against and is_model(Path(self.what)) and not is_model(Path(against)):
            side = image_side(read_card(newest(Path(self.what))))
            options = replace(options, size=options.size or side)
        self.against, self.options = against, options
        self.real: ImageSet | None = None
        if against and needs_real:  # before the first image is drawn: a missing one costs nothing
            fields = fields_of(self.metrics.values(), "real", request.with_floor)
            all_images = replace(options, num=0)
            self.real = open_reference(against, all_images, self.networks, fields, world)

    def collect(self, options: ImageOptions, keep: Path | None = None) -> ImageSet:
        """Read or generate the images with some options, and run the networks on them."""
        like = None if self.real is None else next(iter(self.real.features.values())).labels
        stream = open_stream(self.what, options, self.world, like)
        if keep:
            stream.batches = stored(stream.batches, stream.count, keep, self.world)
        fields = fields_of(self.metrics.values(), "fake")
        fake = collect(stream, self.networks, fields, self.world)
        if any(Field.LABELS in (*m.real, *m.fake) for m in self.metrics.values()):
            align(fake, self.real.class_names if self.real else [], self.networks)
        return fake

    def measure(
        self, metrics: Mapping[str, Metric], fake: ImageSet, with_floor: bool
    ) -> list[Number]:
        """Compute some of the metrics that the evaluation was made for."""
        return measure(metrics, self.networks, self.real, fake, self.options.seed, with_floor)


def networks_for(what: str, features: str, world: World) -> Networks:
    """The feature networks that are named; else a run's own classifier, else Inception.

    Raises:
        ConfigError: if one is unknown, or its weights are not on this machine.
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


def open_reference(
    text: str, options: ImageOptions, networks: Networks, fields: set[Field], world: World
) -> ImageSet:
    """Read a reference: images of any kind, or a file of statistics."""
    if not is_statistics(text):
        return collect(open_stream(text, options, world), networks, fields, world)
    path, features = Path(text), {}
    about: dict[str, Any] = {}
    for name, network in networks.items():
        features[name], about = load_statistics(path, network)
    of_rows = fields - {Field.MOMENTS, Field.SPATIAL}
    if has_images(path) and of_rows:
        some = collect(open_stream(text, options, world), networks, of_rows, world)
        for name, found in features.items():
            rows = some.features[name]
            features[name] = replace(rows, moments=found.moments, spatial=found.spatial)
        about |= {"num_images": some.count, "side": some.about["side"]}
    return ImageSet(features, about, about.get("class_names", []))


def collect(stream: ImageStream, networks: Networks, fields: set[Field], world: World) -> ImageSet:
    """Run feature networks on a stream of images, with progress."""
    collector = Collector(networks, fields, world.device)
    total = None if stream.count is None else -(-stream.count // world.size)
    for batch in follow(stream.batches, total, "images", world.is_first, LabeledBatch.num_images):
        collector.add(batch)
    found = collector.finish(world, stream.class_names, **stream.about)
    for note in stream.notes:
        if world.is_first:
            print(f"notice: {note}")
    return found


def align(fake: ImageSet, real_names: list[str], networks: Networks) -> None:
    """Translate the labels of images to the classes of the reference, or of the classifiers.

    Raises:
        DataError: if a class has no counterpart.
    """
    known = [network.identity().get("classes") for network in networks.values()]
    lists = [names for names in [real_names, *known] if names]
    if not lists or not fake.class_names:
        return
    # Labels follow the longest list, or the first of those, and must fit the others too.
    for onto in sorted(reversed(lists), key=len):
        change = translate(fake.class_names, onto, "the reference's or the classifier's")
    for features in fake.features.values():
        features.labels = None if features.labels is None else change(features.labels)
    fake.class_names = fake.about["class_names"] = onto


def stored(
    batches: Iterator[LabeledBatch], count: int | None, path: Path, world: World
) -> Iterator[LabeledBatch]:
    """Pass images on and store them: NAME.npz, which one process writes, or a folder of PNGs."""
    if path.suffix != ".npz":
        for batch in batches:
            for image, label, place in zip(*batch, strict=True):
                save_png(to_pil(image), path / f"{int(place):06d}-{int(label)}.png")
            yield batch
        return
    if world.size > 1 or count is None:
        raise ConfigError(
            "an .npz file is written by one process that knows how many images come",
            "name a folder instead: --keep DIR",
        )
    labels: list[Labels] = []
    with atomic_file(path) as draft:
        writer: ArrayWriter | None = None
        for batch in batches:
            writer = writer or ArrayWriter(draft, count, batch.images.shape[-1])
            writer.append(batch.images)
            labels.append(batch.labels)
            yield batch
        if writer:
            writer.close(torch.cat(labels))


def make_statistics(
    source: str,
    out: Path,
    features: str,
    options: ImageOptions,
    with_bank: bool,
    world: World,
) -> list[str]:
    """Write the statistics of a source's images into a file.

    Args:
        with_bank: whether the features of every image are stored too.

    Returns:
        Lines for people.
    """
    networks = networks_for(source, features, world)
    if len(networks) > 1:
        raise ConfigError("statistics are of one feature network", "make one file for each")
    fields = {Field.MOMENTS, Field.SPATIAL}
    if with_bank:
        fields |= {Field.BANK, Field.LABELS, Field.LOGITS}
    found = collect(open_stream(source, options, world), networks, fields, world)
    ((name, network),) = networks.items()
    if world.is_first:
        save_statistics(out, found, network)
    return [
        f"{found.count:,} images of `{source}` in the features of "
        f"{label_of(network.identity())}: `{out}`",
        f"next: scalegan evaluate RUN --against {out} --features {name}",
    ]
