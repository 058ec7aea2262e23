"""The metrics of `scalegan evaluate` at several truncations, and the nearest real images."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from scalegan.errors import ConfigError, ScaleganError
from scalegan.evaluation.collect import ImageSet
from scalegan.evaluation.evaluate import Evaluation, Request
from scalegan.evaluation.images import is_model, open_stream
from scalegan.evaluation.measure import Number
from scalegan.inference.gan import GAN
from scalegan.interfaces import TruncatesNoise, TruncatesStyle
from scalegan.metrics.neighbors import nearest
from scalegan.runtime.text import clock
from scalegan.runtime.world import World

SWEPT = ["fid", "is", "pr"]
"""Metrics of every truncation."""
ONCE = ["dc", "accuracy", "per-class", "authenticity", "nearest", "copies"]
"""Further metrics of untruncated images."""
NUM_SAMPLES, NUM_NEIGHBORS = 8, 3
"""Samples whose nearest real images are shown, and how many of them."""


class NearestImages(NamedTuple):
    """The real images nearest to the samples of the first seeds."""

    images: UInt8[Tensor, "N K 3 P P"]
    distances: Float64[Tensor, "N K"]


@dataclass
class Measurements:
    """All that was measured of a generator, and why the rest could not be."""

    truncations: list[float | None] = field(default_factory=lambda: [None])
    """That images are shown at; None, no truncation, is the last."""
    sampling_rate: float = 0.0
    """Images per second; 0 = not measured."""
    sweep: dict[float | None, list[Number]] = field(default_factory=dict)
    """By truncation, of those at which images could be measured."""
    numbers: list[Number] = field(default_factory=list)
    """Of untruncated images."""
    nearest: NearestImages | None = None
    missing: dict[str, str] = field(default_factory=dict)
    """Reasons by metric, or by part of the report; "all" = nothing could be measured."""

    @contextmanager
    def or_missing(self, name: str) -> Iterator[None]:
        """Measure something, or note in `missing` why it cannot be measured."""
        try:
            yield
        except ScaleganError as error:
            self.missing[name] = f"{error}; {error.hint}" if error.hint else str(error)


def usable_truncations(gan: GAN, truncations: Sequence[float]) -> list[float | None]:
    """The truncations that a generator can be sampled with, most truncated first; None is last.

    Style is not truncated at 1; noise is at any threshold.
    """
    if isinstance(gan.generator, TruncatesStyle):
        truncations = [psi for psi in truncations if psi != 1]
    elif not isinstance(gan.generator, TruncatesNoise):
        truncations = []
    return [*sorted(set(truncations)), None]


def measure_sampling_rate(gan: GAN, batch_size: int = 32) -> float:
    """Images per second, decoding included; the first few are not timed."""
    gan.sample(2, batch_size=2)
    started = time.perf_counter()
    gan.sample(batch_size, batch_size=batch_size)
    return batch_size / (time.perf_counter() - started)


def sweep_estimate(num: int, measured: Measurements) -> str:
    """What a sweep over `measured.truncations` will take, in a sentence."""
    steps, rate = len(measured.truncations), measured.sampling_rate
    times = "once" if steps == 1 else f"at {steps} truncations"
    drawing = clock(num * steps / rate)
    return (
        f"measuring {num:,} images {times}: about {drawing} to draw them at {rate:,.0f} images/s, "
        "and some to extract their features"
    )


def measure_sweep(measured: Measurements, request: Request, world: World) -> None:
    """Measure a generator at `measured.truncations` against one reference, which is read once.

    What cannot be measured is left out, and `measured.missing` says why.

    Args:
        measured: where the results are added.
        request: of a run or a snapshot; its metrics are not used.
    """
    with measured.or_missing("all"):
        metrics = ",".join([*SWEPT, *ONCE])
        evaluation = Evaluation(replace(request, metrics=metrics, with_floor=True), world)
        if len(evaluation.networks) > 1:
            raise ConfigError("a report measures in one network's features, not in several")
        for place, psi in enumerate(measured.truncations, start=1):
            name = f"truncation {truncation_label(psi)}"
            print(f"{name} ({place} of {len(measured.truncations)})")
            with measured.or_missing(name):
                fake = evaluation.collect(replace(evaluation.options, truncation=psi))
                numbers = _measure_each(SWEPT, evaluation, fake, psi is None, measured)
                measured.sweep[psi] = numbers
                if psi is None:
                    once = _measure_each(ONCE, evaluation, fake, True, measured)
                    measured.numbers = [*numbers, *once]
                    with measured.or_missing("neighbors"):
                        measured.nearest = nearest_images(evaluation, fake)


def nearest_images(evaluation: Evaluation, fake: ImageSet) -> NearestImages:
    """The real images nearest to the first samples, in the features that were compared in.

    Raises:
        ConfigError: if the reference does not consist of single images that can be read again.
        DataError: if they can no longer be read.
    """
    (key,) = evaluation.networks
    real = evaluation.real
    bank = None if real is None else real.features[key].bank
    if real is None or bank is None or real.positions is None or is_model(Path(evaluation.against)):
        raise ConfigError(
            "the reference holds no images to show",
            "name the images themselves with --against",
        )
    samples = fake.features[key].bank
    assert samples is not None
    neighbors = nearest(samples[:NUM_SAMPLES], bank, min(NUM_NEIGHBORS, len(bank)))
    positions = real.positions[neighbors.indices]  # (N, K)
    only = tuple(positions.unique().tolist())
    again = replace(evaluation.options, num=0, only=only)
    stream = open_stream(evaluation.against, again, evaluation.world)
    images = torch.cat([batch.images for batch in stream.batches])
    rows = [[bisect_left(only, position) for position in row] for row in positions.tolist()]
    return NearestImages(images[torch.tensor(rows)], neighbors.distances)


def truncation_label(truncation: float | None) -> str:
    """A truncation in a word."""
    return "none" if truncation is None else f"{truncation:g}"


def _measure_each(
    names: list[str],
    evaluation: Evaluation,
    fake: ImageSet,
    with_floor: bool,
    measured: Measurements,
) -> list[Number]:
    """Every metric that can be measured; of the others, why not."""
    numbers: list[Number] = []
    for name in names:
        with measured.or_missing(name):
            chosen = {name: evaluation.metrics[name]}
            numbers += evaluation.measure(chosen, fake, with_floor)
    return numbers
