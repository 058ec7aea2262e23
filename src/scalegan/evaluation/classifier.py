"""`scalegan classifier train`: a source of images, or shards, becomes a classifier."""

from pathlib import Path

import torch

from scalegan.config.auxiliary import ClassifierConfig
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.images import Drawing, open_stream
from scalegan.features.classifier import fit_classifier, save_classifier
from scalegan.runtime.progress import Bar
from scalegan.runtime.world import World


def train_classifier(
    source: str, out: Path, config: ClassifierConfig, device: str = "cpu"
) -> list[str]:
    """Train a classifier and save it; an interrupted call leaves nothing behind.

    Args:
        source: images with classes, as `data.source`, or shards.
        out: the folder to write; it must not exist.
        config: checked.
        device: "cpu", "cuda" or "cuda:1".

    Returns:
        Lines for people: how good it is, and what to type next.

    Raises:
        ConfigError, DataError: see their sentences.
    """
    if out.exists():
        raise ConfigError(f"`{out}` exists already", "choose another folder, or remove it")
    world = World(0, 1, torch.device(device))
    stream = open_stream(source, Drawing(size=config.size, seed=config.seed), world)
    if stream.count is not None and stream.count > config.num_images:
        drawing = Drawing(num=config.num_images, size=config.size, seed=config.seed)
        stream = open_stream(source, drawing, world)
    if len(stream.class_names) < 2:
        raise DataError(
            f"`{source}` has no classes to tell apart, and a classifier learns nothing else",
            "compare in a network that others trained: --features dinov2-l, transformers:PATH",
        )
    parts = []
    with Bar(stream.count, "images") as bar:
        for shown in stream.batches:
            parts.append(shown)
            bar.advance(len(shown.images))
    images, labels = (torch.cat([part[i] for part in parts]) for i in range(2))
    with Bar(None, "steps", images_per_unit=config.batch_size) as bar:

        def watch(_: int, steps: int) -> None:
            bar.total = steps
            bar.bar.update(bar.task, total=steps)
            bar.advance()

        classifier = fit_classifier(images, labels, stream.class_names, config, watch, device)
    save_classifier(out, classifier)
    about = classifier.about
    return [
        *(f"notice: {note}" for note in stream.notes),
        f"{classifier.held_out_accuracy:.2%} of {about['num_held_out']:,} held-out images are "
        f"classified correctly ({len(stream.class_names)} classes; trained on "
        f"{about['num_images']:,})",
        f"classifier {classifier.digest[:12]} in `{out}`",
        f"next: scalegan evaluate RUN --against {source} --features classifier:{out}",
    ]
