"""Classifiers of a user's own images, to evaluate with: trained, or trained on samples alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from scalegan.config.auxiliary import ClassifierConfig
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import LabeledBatch
from scalegan.evaluation.images import ImageOptions, open_stream
from scalegan.features.classifier import accuracy, fit_classifier, save_classifier
from scalegan.interfaces import Labels
from scalegan.runtime.progress import Bar, follow
from scalegan.runtime.world import World


def train_classifier(
    source: str, out: Path, config: ClassifierConfig, device: str = "cpu"
) -> list[str]:
    """Train a classifier on images with classes and save it; if interrupted, leave nothing behind.

    Args:
        source: images with classes, as `data.source`, or shards.
        out: the folder to write.

    Returns:
        Lines for people: how good it is, and what to type next.

    Raises:
        ConfigError, DataError: if the folder exists, or the images cannot be read or lack classes.
    """
    if out.exists():
        raise ConfigError(f"`{out}` exists already", "choose another folder, or remove it")
    world = World(0, 1, torch.device(device))
    options = ImageOptions(size=config.size, seed=config.seed)
    stream = open_stream(source, options, world)
    if stream.count is not None and stream.count > config.num_images:
        stream = open_stream(source, replace(options, num=config.num_images), world)
    if len(stream.class_names) < 2:
        raise DataError(
            f"`{source}` has no classes to tell apart, and a classifier learns nothing else",
            "compare in a network that others trained: --features dinov2-l, transformers:PATH",
        )
    batches = follow(stream.batches, stream.count, "images", size=LabeledBatch.num_images)
    images, labels, _ = map(torch.cat, zip(*batches, strict=True))
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


# CAS: accuracy on real images of argmax p(y|x), p trained on generated pairs (x, y) alone
# (Ravuri and Vinyals, arXiv 1905.10887, section 3).
def classification_accuracy_score(
    fit: Callable[[Any, Any, list[str]], Callable[[Any], Any]],
    real: UInt8[Tensor, "N 3 P P"],
    real_labels: Labels,
    fake: UInt8[Tensor, "M 3 P P"],
    fake_labels: Int64[Tensor, " M"],
    num_classes: int,
) -> float:
    """Accuracy on real images of a classifier trained on generated ones alone.

    The real images should be ones that the generator was not trained on.

    Args:
        fit: trains on (images, labels, class names); gives a function to features with logits.
    """
    classifier = fit(fake, fake_labels, [str(i) for i in range(num_classes)])
    return accuracy(classifier, real, real_labels)
