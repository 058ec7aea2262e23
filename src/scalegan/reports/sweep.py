"""What a report measures: the numbers of `scalegan evaluate`, for several truncations."""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from scalegan.errors import ConfigError, ScaleganError
from scalegan.evaluation.collect import ImageSet
from scalegan.evaluation.evaluate import Evaluation, Request
from scalegan.evaluation.images import ImageOptions, is_model, open_stream
from scalegan.evaluation.measure import Number
from scalegan.inference.gan import GAN
from scalegan.interfaces import TruncatesNoise, TruncatesStyle
from scalegan.metrics.neighbors import nearest
from scalegan.runtime.world import World

SWEPT = ["fid", "is", "pr"]
"""Metrics of every truncation."""
ONCE = ["dc", "accuracy", "per-class", "authenticity", "nearest", "copies"]
"""Metrics of untruncated images besides."""
SAMPLES, NEIGHBORS = 8, 3
"""Samples whose nearest real images are shown, and how many of them."""


class Step(NamedTuple):
    """One truncation of the sweep; None = none."""

    truncation: float | None
    numbers: list[Number]


class Near(NamedTuple):
    """The real images next to the samples of the first seeds."""

    images: UInt8[Tensor, "N K 3 P P"]
    distances: Float64[Tensor, "N K"]


@dataclass
class Measured:
    """All that was measured, and in sentences what could not be."""

    steps: list[Step] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    """Of untruncated images."""
    near: Near | None = None
    lacking: dict[str, str] = field(default_factory=dict)
    """By metric, or by part of the report."""


def ways(gan: GAN, truncations: Sequence[float]) -> list[float | None]:
    """The truncations that a generator can be sampled with, most truncated first; None is last.

    Style is not truncated at 1; noise is at any threshold.
    """
    if isinstance(gan.generator, TruncatesStyle):
        truncations = [psi for psi in truncations if psi != 1]
    elif not isinstance(gan.generator, TruncatesNoise):
        truncations = []
    return [*sorted(set(truncations)), None]


def images_per_second(gan: GAN, batch_size: int = 32) -> float:
    """How fast images are drawn, decoding included; the first few are not timed."""
    gan.sample(2, batch_size=2)
    started = time.perf_counter()
    gan.sample(batch_size, batch_size=batch_size)
    return batch_size / (time.perf_counter() - started)


def estimate(num: int, steps: int, rate: float) -> str:
    """What a sweep will take, before it starts."""
    seconds = round(num * steps / rate)
    minutes, seconds = divmod(seconds, 60)
    return (
        f"measuring {num:,} images {'once' if steps == 1 else f'at {steps} truncations'}: about "
        f"{minutes}:{seconds:02d} to draw them at {rate:,.0f} images/s, and some to look at them"
    )


def measure_all(
    what: str,
    gan: GAN,
    against: str,
    features: str,
    options: ImageOptions,
    truncations: Sequence[float | None],
    world: World,
    tell: Callable[[str], None],
) -> Measured:
    """Measure a generator at several truncations against one reference, looked at once.

    What cannot be measured is left out and said; the rest is measured.

    Args:
        what: the run or snapshot that `gan` is of.
        against, features: as `scalegan evaluate` has them.
        truncations: with None, no truncation, at the end.
    """
    found = Measured()
    try:
        metrics = ",".join([*SWEPT, *ONCE])
        request = Request(what, against, metrics, features, options, with_floor=True)
        evaluation = Evaluation(request, world, tell)
        if len(evaluation.networks) > 1:
            raise ConfigError("a report looks through one feature network, not several")
    except ScaleganError as error:
        found.lacking["all"] = sentence(error)
        return found
    for place, psi in enumerate(truncations, start=1):
        tell(f"truncation {label(psi)} ({place} of {len(truncations)})")
        try:
            fake = evaluation.collect(replace(evaluation.options, truncation=psi))
        except ScaleganError as error:
            found.lacking[f"truncation {label(psi)}"] = sentence(error)
            continue
        numbers = _each(SWEPT, evaluation, fake, psi is None, found.lacking)
        found.steps.append(Step(psi, numbers))
        if psi is None:
            once = _each(ONCE, evaluation, fake, True, found.lacking)
            found.numbers = [*numbers, *once]
            try:
                found.near = neighbors(evaluation, fake)
            except ScaleganError as error:
                found.lacking["neighbors"] = sentence(error)
    return found


def neighbors(evaluation: Evaluation, fake: ImageSet) -> Near:
    """The real images nearest to the first samples, in the features that were compared in.

    Raises:
        ConfigError: if the reference is not of single images that can be looked at again.
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
    found = nearest(samples[:SAMPLES], bank, min(NEIGHBORS, len(bank)))
    places = real.positions[found.indices]  # (N, K)
    only = tuple(places.unique().tolist())
    again = replace(evaluation.options, num=0, only=only)
    stream = open_stream(evaluation.against, again, evaluation.world)
    images = torch.cat([batch.images for batch in stream.batches])
    rows = [[bisect_left(only, place) for place in line] for line in places.tolist()]
    return Near(images[torch.tensor(rows)], found.distances)


def label(truncation: float | None) -> str:
    """A truncation in a word."""
    return "none" if truncation is None else f"{truncation:g}"


def sentence(error: ScaleganError) -> str:
    """An error as it would be printed, in one line."""
    return f"{error}; {error.hint}" if error.hint else str(error)


def _each(
    names: list[str],
    evaluation: Evaluation,
    fake: ImageSet,
    with_floor: bool,
    lacking: dict[str, str],
) -> list[Number]:
    """Every metric that can be measured; of the others, why not."""
    numbers: list[Number] = []
    for name in names:
        try:
            chosen = {name: evaluation.metrics[name]}
            numbers += evaluation.measure(chosen, fake, with_floor)
        except ScaleganError as error:
            lacking[name] = sentence(error)
    return numbers
