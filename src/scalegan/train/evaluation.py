"""Evaluation while a run trains, and at its end. It reads the average and changes nothing.

Every image is a function of its seed and every draw has a stream of its own, so that a run with
evaluation ends with the same bits as one without. Ranks share the images; numbers do not depend on
how many there are.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from scalegan.config.auxiliary import ClassifierConfig
from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.collect import Collector, Seen, Shown
from scalegan.evaluation.evaluate import metric_names, table, write_result
from scalegan.evaluation.images import DECODED, Drawing, labels_of
from scalegan.evaluation.measure import Context, Number, kinds_of, measure
from scalegan.evaluation.networks import open_networks
from scalegan.evaluation.tables import METRICS
from scalegan.features.classifier import fit_classifier, load_classifier, save_classifier
from scalegan.inference.sampling import sample
from scalegan.interfaces import FeatureNetwork
from scalegan.runtime.log import Log, read_metrics
from scalegan.runtime.progress import Bar
from scalegan.train.build import Built

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
        self.names = metric_names(self.config.evaluate.metrics)
        if not self.config.data.conditional:  # samples have no class that could be right or wrong
            self.names = [n for n in self.names if "fake.labels" not in METRICS[n].takes]
        self.metrics = [METRICS[name] for name in self.names]
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
    def networks(self) -> Mapping[str, FeatureNetwork]:
        """What looks at the images: what the config names, or the run's own classifier."""
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
    def real(self) -> Seen:
        """The run's real images, seen once."""
        collector = self._collector("real")
        images, labels = self.built.images[:2]
        for positions in self._share(len(images)).split(BATCH_SIZE):
            collector.add(Shown(images[positions], labels[positions], positions))
        data = self.config.data
        about = {"kind": "the run's images", "path": data.shards or data.source}
        return collector.finish(self.world, **about, class_names=self.built.images.class_names)

    def evaluate(self, seconds: float | None = None, with_floor: bool = False) -> list[Number]:
        """Numbers of the average as it is now, on the first rank; none if the time is not enough.

        Args:
            seconds: budget for drawing and looking; None = as long as it takes.
            with_floor: whether halves of the real images are compared too.
        """
        real = self.real  # not part of the budget: it is made once
        drawing = Drawing(num=self.config.evaluate.num_images)
        names = self.built.images.class_names
        num_classes = len(names) if self.config.data.conditional else 0
        labels = labels_of(drawing.num, num_classes, drawing, None)
        collector = self._collector("fake")
        parts = list(self._share(drawing.num).split(BATCH_SIZE))
        # All ranks ask for the time equally often, also where the last one has a batch less.
        per_rank = math.ceil(drawing.num / self.world.size)
        num_parts = math.ceil(per_rank / BATCH_SIZE)
        state, started = self.built.state, time.monotonic()
        average = state.whole_average()  # of all ranks, if it is sharded
        with Bar(per_rank, "images", console=self.log.console, is_shown=self.world.is_first) as bar:
            for i in range(num_parts):
                self.world.pulse.beat()  # to work long on an evaluation is not to stand still
                is_late = seconds is not None and time.monotonic() - started > seconds
                if self.world.any(is_late):
                    self.log.say(
                        f"evaluation given up after {seconds:.0f} s at {i * BATCH_SIZE:,} of "
                        f"{per_rank:,} images; lower `evaluate.num_images`, or raise "
                        "`evaluate.seconds`"
                    )
                    return []
                if i < len(parts):
                    own = labels[parts[i]]
                    seeds = parts[i].tolist()
                    drawn = sample(average, state.autoencoder, seeds, own)
                    collector.add(Shown(torch.cat(list(drawn)), own, parts[i]))
                    bar.advance(len(own))
        about = {
            "kind": "generated", "step": state.step, "average": "moving average of training",
            "ema_decay": self.config.train.ema_decay, "seeds": [0, drawing.num - 1],
            "classes": drawing.classes, "truncation": drawing.truncation, "guidance": 1.0,
            "autoencoder": state.autoencoder.identity(), "rounding": DECODED,
            "requested": drawing.num,
        }  # fmt: skip
        fake = collector.finish(self.world, **about)
        if not self.world.is_first:
            return []
        context = Context(len(names), self.config.seed)
        try:
            return measure(self.names, METRICS, self.networks, real, fake, context, with_floor)
        except DataError as error:  # of a generator that has collapsed, say: the run goes on
            self.log.say(f"notice: the evaluation has no result: {error}")
            return []

    def record(self, numbers: list[Number]) -> None:
        """Write numbers into metrics.jsonl and the whole result into evaluation.json."""
        if not numbers:
            return
        state = self.built.state
        values: dict[str, float | str | None] = {}
        for number in numbers:
            values[f"evaluate/{number.name}"] = number.value
        self.log.record(
            state.step, state.images_seen, values | {"fingerprint": numbers[0].fingerprint}
        )
        write_result(self.run / "evaluation.json", numbers)

    def _collector(self, side: str) -> Collector:
        # What the end asks for, so that the real images are looked at once.
        kinds = kinds_of(self.metrics, side, with_floor=True)
        return Collector(self.networks, kinds, self.world.device)

    def _share(self, count: int) -> torch.Tensor:
        return torch.arange(count)[self.world.rank :: self.world.size]


def is_measured(run: Path, step: int) -> bool:
    """Whether a run has numbers of a step."""
    return any(line["step"] == step and "fingerprint" in line for line in read_metrics(run))


def choose_best(run: Path) -> Path | None:
    """Let `snapshots/best` lead to the evaluated snapshot at the smallest distance.

    It follows from the run's folder alone, so that a resumed run chooses alike: numbers of
    another protocol than the last one's, and steps without a snapshot, do not count.
    """
    lines = [line for line in read_metrics(run) if _distance(line) is not None]
    candidates = {
        f"step-{line['step']:08d}": _distance(line)
        for line in lines
        if line["fingerprint"] == lines[-1]["fingerprint"]
        and (run / "snapshots" / f"step-{line['step']:08d}").is_dir()
    }
    link = run / "snapshots" / BEST
    if not candidates:
        link.unlink(missing_ok=True)
        return None
    best = min(candidates, key=lambda name: candidates[name] or 0.0)
    draft = link.with_name(f".{BEST}.{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    draft.symlink_to(best, target_is_directory=True)
    draft.replace(link)
    return link.with_name(best)


def _distance(line: Mapping[str, Any]) -> float | None:
    names = ("evaluate/fd", "evaluate/fid")
    return next((line[name] for name in line if name.startswith(names) and line[name]), None)


def describe(numbers: list[Number], say: Callable[[str], None]) -> None:
    """The table, and what it means."""
    for line in table(numbers):
        say(line)
    if any(number.floor is not None for number in numbers):
        say(
            "real images: the same of two random halves of the real images; accuracy: of real "
            "images that the classifier has not seen"
        )
