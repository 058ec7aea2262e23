"""Evaluation while a run trains, and at its end. It reads the average and changes nothing.

Every image is a function of its seed and every draw has a stream of its own, so that a run with
evaluation ends with the same bits as one without. Ranks share the images; numbers do not depend on
how many there are.
"""

import math
import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from scalegan.config.auxiliary import ClassifierConfig
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import Collector, Field, ImageSet, LabeledBatch, Networks
from scalegan.evaluation.images import (
    ImageOptions,
    sampled_about,
    sampled_batches,
    sampled_labels,
)
from scalegan.evaluation.measure import Number, fields_of, measure
from scalegan.evaluation.results import results_table, write_result
from scalegan.evaluation.tables import named_metrics
from scalegan.features.classifier import fit_classifier, load_classifier, save_classifier
from scalegan.features.tables import open_networks
from scalegan.runtime.log import Log, read_metrics
from scalegan.runtime.progress import Bar
from scalegan.train.build import Built
from scalegan.train.curves import EVALUATED, metric_kinds

BATCH_SIZE = 64
BEST = "best"


class Evaluator:
    """Measures one run's averaged generator against its real images.

    Networks and features of the real images are made at first use and used again.

    Args:
        built: the run; nothing of it is changed.
        run: its folder, which holds the classifier: a resumed run is evaluated by the same one.
        log: where progress and results go.

    Raises:
        ConfigError: if a metric is unknown, or there are no classes to train a classifier on.
    """

    def __init__(self, built: Built, run: Path, log: Log) -> None:
        self.built, self.run, self.log = built, run, log
        self.config, self.world = built.state.config, built.state.world
        self.metrics = named_metrics(self.config.evaluate.metrics)
        if not self.config.data.conditional:  # samples have no class that could be right or wrong
            self.metrics = {n: m for n, m in self.metrics.items() if Field.LABELS not in m.fake}
        has_classifier = not self.config.evaluate.features
        if self.is_on and has_classifier and len(built.images.labels.unique()) < 2:
            raise ConfigError(
                "`evaluate.num_images` is set but images of one class cannot train a classifier",
                "name a network with `evaluate.features`, or set it to 0",
            )

    @property
    def is_on(self) -> bool:
        return self.config.evaluate.num_images > 0

    @cached_property
    def networks(self) -> Networks:
        """The feature networks that the config names, or the run's own classifier."""
        device = self.world.device
        if self.config.evaluate.features:
            return open_networks(self.config.evaluate.features, device)
        path = self.run / "classifier"
        if self.world.is_first and not (path / "classifier.json").is_file():
            self.log.say("training a classifier on the real images ...")
            images, labels, names = self.built.images[:3]
            with Bar(None, "steps", console=self.log.console) as bar:
                classifier = fit_classifier(
                    images, labels, names, ClassifierConfig(seed=self.config.seed),
                    lambda *_: bar.advance(), device,
                )  # fmt: skip
            save_classifier(path, classifier)
        self.world.wait()
        return {"classifier": load_classifier(path, device)}

    @cached_property
    def real(self) -> ImageSet:
        """The run's real images in the networks' features, computed once."""
        collector = self._collector("real")
        images, labels = self.built.images[:2]
        share = torch.arange(len(images))[self.world.rank :: self.world.size]
        for positions in share.split(BATCH_SIZE):
            collector.add(LabeledBatch(images[positions], labels[positions], positions))
        data = self.config.data
        about = {"kind": "the run's images", "path": data.shards or data.source}
        return collector.finish(self.world, self.built.images.class_names, **about)

    def evaluate(self, seconds: float | None = None, with_floor: bool = False) -> list[Number]:
        """Numbers of the average as it is now, on the first rank; none if the time is not enough.

        Args:
            seconds: budget for generating images and running the networks; None = no limit.
            with_floor: whether halves of the real images are compared too.
        """
        real = self.real  # not part of the budget: it is made once
        options = ImageOptions(num=self.config.evaluate.num_images, batch_size=BATCH_SIZE)
        names = self.built.images.class_names
        num_classes = len(names) if self.config.data.conditional else 0
        labels = sampled_labels(options.num, num_classes, options, None)
        collector = self._collector("fake")
        # All ranks ask for the time equally often, also where the last one has a batch less.
        per_rank = math.ceil(options.num / self.world.size)
        num_batches = math.ceil(per_rank / BATCH_SIZE)
        state, started = self.built.state, time.monotonic()
        average = state.whole_average()  # of all ranks, if it is sharded
        batches = sampled_batches(average, state.autoencoder, labels, options, self.world)
        with Bar(per_rank, "images", console=self.log.console, is_shown=self.world.is_first) as bar:
            for i in range(num_batches):
                self.world.pulse.beat()  # to work long on an evaluation is not to stand still
                is_late = seconds is not None and time.monotonic() - started > seconds
                if self.world.any(is_late):
                    self.log.say(
                        f"evaluation given up after {seconds:.0f} s at {i * BATCH_SIZE:,} of "
                        f"{per_rank:,} images; lower `evaluate.num_images`, or raise "
                        "`evaluate.seconds`"
                    )
                    return []
                if batch := next(batches, None):
                    collector.add(batch)
                    bar.advance(len(batch.labels))
        about = sampled_about(options, options.num, state.autoencoder)
        about |= {"step": state.step, "ema_decay": self.config.train.ema_decay}
        fake = collector.finish(self.world, names, **about)
        if not self.world.is_first:
            return []
        try:
            seed = self.config.seed
            return measure(self.metrics, self.networks, real, fake, seed, with_floor)
        except DataError as error:  # of a generator that has collapsed, say: the run goes on
            self.log.say(f"notice: the evaluation has no result: {error}")
            return []

    def record(self, numbers: list[Number]) -> None:
        """Write numbers into metrics.jsonl and the whole result into evaluation.json."""
        if not numbers:
            return
        state = self.built.state
        values = {EVALUATED + number.name: number.value for number in numbers}
        known = {**values, "fingerprint": numbers[0].fingerprint}
        self.log.record(state.step, state.images_seen, known)
        write_result(self.run / "evaluation.json", numbers)

    def _collector(self, side: Literal["real", "fake"]) -> Collector:
        # What the end asks for, so that the real images are read once.
        fields = fields_of(self.metrics.values(), side, with_floor=True)
        return Collector(self.networks, fields, self.world.device)


def is_measured(run: Path, step: int) -> bool:
    """Whether a run has numbers of a step."""
    return any(line["step"] == step and "fingerprint" in line for line in read_metrics(run))


def choose_best(run: Path) -> Path | None:
    """Link `snapshots/best` to the evaluated snapshot of the smallest distance.

    The distance is the first one that was evaluated last. The choice follows from the run's folder
    alone, so that a resumed run chooses alike: numbers of another protocol than the last one's,
    and steps without a snapshot, do not count.
    """
    distance = next((name for name, kind in metric_kinds(run).items() if kind == "distance"), "")
    lines = [line for line in read_metrics(run) if line.get(distance) is not None]
    candidates = {
        f"step-{line['step']:08d}": line[distance]
        for line in lines
        if line["fingerprint"] == lines[-1]["fingerprint"]
        and (run / "snapshots" / f"step-{line['step']:08d}").is_dir()
    }
    link = run / "snapshots" / BEST
    if not candidates:
        link.unlink(missing_ok=True)
        return None
    best = min(candidates, key=lambda name: candidates[name])
    draft = link.with_name(f".{BEST}.{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    draft.symlink_to(best, target_is_directory=True)
    draft.replace(link)
    return link.with_name(best)


def log_numbers(numbers: list[Number], say: Callable[[str], None]) -> None:
    """The table, and what it means."""
    for line in results_table(numbers):
        say(line)
    if any(number.floor is not None for number in numbers):
        say(
            "real images: the same of two random halves of the real images; accuracy: of real "
            "images that the classifier has not seen"
        )
