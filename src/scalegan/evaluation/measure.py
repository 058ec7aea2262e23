"""The numbers of two sets of images, each with its protocol and a fingerprint."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from scalegan.errors import ConfigError
from scalegan.evaluation.collect import OF_NETWORK, Field, ImageSet, Networks, SetFeatures, split
from scalegan.evaluation.protocol import fingerprint, label_of, marks, title
from scalegan.interfaces import FeatureNetwork
from scalegan.runtime.rng import stream

Kind = Literal["distance", "share", "score"]
"""Distances are better the smaller; shares lie in 0..1 (or are percentages); scores have neither
an upper end nor a zero that means equality."""


@dataclass(frozen=True)
class Metric:
    """How a number is computed from what is known of real and generated images.

    `function` is called with the fields `real`, then the fields `fake`, then the number of classes
    if `takes_num_classes`, and with `parameters` by their names. It returns a number, or a named
    tuple or table of numbers. Of one with a `mean` or `value` that is the number and the rest its
    spread; of any other each entry stands for itself.
    """

    id: str
    """Its name in protocols and fingerprints; it changes only when the number's meaning does."""
    title: str
    """Its name in any network's features; of a table, each name in it stands for itself."""
    kind: Kind
    function: Callable[..., Any]
    real: tuple[Field, ...] = ()
    """What it takes of the real images; empty = it needs no reference."""
    fake: tuple[Field, ...] = ()
    """What it takes of the generated images."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Part of the protocol: numbers of neighbors, subsets and the like."""
    inception_title: str = ""
    """Its name in the features of the published Inception network, if that is another."""
    takes_num_classes: bool = False
    is_shuffled: bool = False
    """Whether generated images come in random order, because their order counts."""
    floor: Literal["halves", "held_out_accuracy"] = "halves"
    """What real images score: two random halves of them against each other, or that entry of the
    feature network's identity."""

    @property
    def uses_features(self) -> bool:
        return not OF_NETWORK.isdisjoint((*self.real, *self.fake))

    def __call__(
        self, real: SetFeatures | None, fake: SetFeatures, num_classes: int, seed: int
    ) -> Any:
        values = [getattr(real, name) for name in self.real]
        for name in self.fake:
            value = getattr(fake, name)
            if self.is_shuffled:
                value = value[torch.randperm(len(value), generator=stream(seed, "rows"))]
            values.append(value)
        return self.function(*values, *[num_classes] * self.takes_num_classes, **self.parameters)


@dataclass(frozen=True)
class Number:
    """One value of a metric, and all that decides it."""

    metric: str
    name: str
    """Unique in a result: `fd`, `precision`; with the features' name where there are several."""
    title: str
    kind: Kind
    value: float | None
    """None: not a number."""
    spread: dict[str, float]
    """Standard deviation and the like, by name."""
    floor: float | None
    """The same number for real images."""
    num_real: int
    num_fake: int
    protocol: dict[str, Any]
    fingerprint: str
    """Equal for numbers that may be compared."""
    marks: tuple[str, ...] = ()
    """What a reader should know before believing it, in sentences."""
    details: dict[str, Any] = field(default_factory=dict)
    """What it is made of, such as the distances of single classes."""


def fields_of(
    metrics: Iterable[Metric], side: Literal["real", "fake"], with_floor: bool = False
) -> set[Field]:
    """What metrics take of one of the two sets.

    Args:
        with_floor: halves of the real images are compared too, which needs every row of theirs.
    """
    if side == "fake":
        return {name for metric in metrics for name in metric.fake}
    found = {
        name for metric in metrics for name in metric.real + (metric.fake if with_floor else ())
    }
    return found | {Field.BANK} if with_floor and Field.MOMENTS in found else found


HINTS = {
    Field.LABELS: "compare sources with classes",
    Field.LOGITS: "name a network that classifies: --features classifier:PATH, or inception",
    Field.CLASS_LOGITS: "name a classifier of these classes: --features classifier:PATH",
    Field.SPATIAL: "only Inception has an agreed spatial layer: --features inception",
    Field.BANK: "a file of statistics alone has no single features; name the images themselves, "
    "or write it with --bank",
}


def measure(
    metrics: Mapping[str, Metric],
    networks: Networks,
    real: ImageSet | None,
    fake: ImageSet,
    seed: int = 0,
    with_floor: bool = False,
) -> list[Number]:
    """Compute every metric in every network's features that have what it takes.

    Args:
        metrics: by name.
        real: what images are compared with; None: only metrics that need no reference.
        seed: of random orders and halves.
        with_floor: whether each is computed on two halves of the real images too.

    Raises:
        ConfigError: if a metric needs what neither set nor any network has.
    """
    numbers: list[Number] = []
    for name, metric in metrics.items():
        if metric.real and real is None:
            raise ConfigError(f"`{name}` needs a reference", "name one with --against")
        found: list[Number] = []
        lack: tuple[str, Field] | None = None
        for key, network in networks.items():
            lack = _lack(metric, real.features[key] if real else None, fake.features[key])
            if lack is None:
                found += _numbers(name, metric, key, network, real, fake, seed, with_floor)
                if not metric.uses_features:
                    break  # the same for every network
        if lack and not found:
            side, missing = lack
            raise ConfigError(
                f"`{name}` needs {missing} of the {side} images", HINTS.get(missing, "")
            )
        numbers += found
    if len(networks) > 1:
        numbers = [
            replace(n, name=f"{n.name} ({label_of(n.protocol['features'])})") for n in numbers
        ]
    return numbers


def _lack(metric: Metric, real: SetFeatures | None, fake: SetFeatures) -> tuple[str, Field] | None:
    """The first thing that a metric takes and a side, real or fake, does not have."""
    for side, features, taken in (("real", real, metric.real), ("fake", fake, metric.fake)):
        for name in taken:
            if getattr(features, name) is None:
                return side, name
    return None


def _numbers(
    name: str,
    metric: Metric,
    key: str,
    network: FeatureNetwork,
    real: ImageSet | None,
    fake: ImageSet,
    seed: int,
    with_floor: bool,
) -> list[Number]:
    """One metric in one network's features: a number, or one for each of a table."""
    identity, num_classes = network.identity(), len(fake.class_names)
    own = name
    if metric.inception_title:
        published = metric.inception_title if identity.get("is_published") else metric.title
        own = published.lower()
    ours, theirs = fake.features[key], real.features[key] if real else None
    rows = _rows(own, metric(theirs, ours, num_classes, seed))
    floors: dict[str, float] = {}
    if with_floor and metric.floor in identity:
        floors = {own: identity[metric.floor]}
    elif with_floor and metric.floor == "halves" and theirs:
        halves = split(theirs, seed)
        if _lack(metric, *halves) is None:
            found = _rows(own, metric(*halves, num_classes, seed))
            floors = {part: value for part, (value, *_) in found.items()}
    protocol: dict[str, Any] = {
        "metric": name,
        "definition": {"id": metric.id, **metric.parameters},
        "features": identity if metric.uses_features else {"kind": "none", "label": ""},
        "num_real": theirs.count if theirs and metric.real else 0,
        "num_fake": ours.count if metric.fake else 0,
        "reference": real.about if real and metric.real else {},
        "samples": fake.about,
    }
    made = []
    for part, (value, spread, details) in rows.items():
        is_finite = math.isfinite(value)
        odd = marks(protocol, ours, metric.fake, is_finite)
        if missing := details.get("missing"):
            odd += (f"{len(missing):,} classes have too few images for `{name}`: {missing[:5]}",)
        base = metric.title if part == own else part.replace("_", " ")
        made.append(
            Number(
                metric=name,
                name=part,
                title=title(base, metric.inception_title, protocol),
                kind=metric.kind,
                value=value if is_finite else None,
                spread=spread,
                floor=floors.get(part),
                num_real=protocol["num_real"],
                num_fake=protocol["num_fake"],
                protocol=protocol,
                fingerprint=fingerprint(protocol),
                marks=odd,
                details=details,
            )
        )
    return made


def _rows(name: str, result: Any) -> dict[str, tuple[float, dict[str, float], dict[str, Any]]]:
    """Values, their spread and details by name, of what a metric's function returns."""
    if hasattr(result, "_asdict"):
        result = result._asdict()
    if not isinstance(result, dict):
        return {name: (float(result), {}, {})}
    numbers = {k: float(v) for k, v in result.items() if isinstance(v, int | float)}
    details = {k: v for k, v in result.items() if k not in numbers}
    own = next((key for key in ("mean", "value") if key in numbers), None)
    if own is None:
        return {k: (v, {}, {}) for k, v in numbers.items()}
    return {name: (numbers.pop(own), numbers, details)}
