"""Numbers of two sides, each with its protocol and a fingerprint of what it may be compared with.

A metric is a function of what is known of the two sides; `Metric.takes` names it, and only what
some metric takes is kept.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

from scalegan.errors import ConfigError
from scalegan.evaluation.collect import Seen, Side, split
from scalegan.evaluation.protocol import fingerprint, label_of, marks, title, variant
from scalegan.interfaces import FeatureNetwork

SIDES = ("real", "fake")
Kind = Literal["distance", "share", "score"]


class Metric(NamedTuple):
    """A function of the two sides, and how it is called.

    `function` returns a number, or a named tuple or table of numbers; of (mean, std, ...) the mean
    is the value and the rest its spread. Its keyword defaults are part of the protocol.
    """

    title: str
    """Its name in any features; of a table, each name in it stands for itself."""
    function: Callable[..., Any]
    takes: tuple[str, ...]
    """Its arguments: fields of `Side` after "real." or "fake.", or those of `Context`."""
    kind: Kind
    """Whether it is a distance (0 is best), a share between 0 and 1, or another score."""
    published: str = ""
    """Its name in the features, counts and reference that the literature means."""
    floor: str = "halves"
    """What real images would score: "halves" = of two random halves of them; else a key of the
    feature network's identity; empty = nothing to compare with."""


class Context(NamedTuple):
    """What metrics may take beside the two sides."""

    num_classes: int
    seed: int = 0


@dataclass(frozen=True)
class Number:
    """One value, what it says, and what it may be compared with."""

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
    """The same for real images."""
    num_real: int
    num_fake: int
    protocol: dict[str, Any]
    fingerprint: str
    """Equal for numbers that may be compared."""
    marks: tuple[str, ...] = ()
    """What is odd about it, in sentences."""
    details: dict[str, Any] = field(default_factory=dict)
    """What it is made of, such as the distances of single classes."""


def kinds_of(metrics: Iterable[Metric], side: str, with_floor: bool = False) -> set[str]:
    """Fields of `Side` that metrics take of one side.

    Args:
        with_floor: halves of real images are compared too, which needs every row of theirs.
    """
    taken = {
        kind
        for metric in metrics
        for where, _, kind in (name.partition(".") for name in metric.takes)
        if kind and (where == side or (side == "real" and with_floor))
    }
    return taken | ({"bank"} if with_floor and "moments" in taken and side == "real" else set())


def measure(
    names: Sequence[str],
    table: Mapping[str, Metric],
    networks: Mapping[str, FeatureNetwork],
    real: Seen | None,
    fake: Seen,
    context: Context,
    with_floor: bool = False,
) -> list[Number]:
    """Every metric in every network's features that have what it takes.

    Args:
        names: of metrics in `table`.
        real: what images are compared with; None: only metrics that need no reference.
        with_floor: whether each is measured on two halves of the real images too.

    Raises:
        ConfigError: if a metric needs what neither side nor any network has.
    """
    numbers: list[Number] = []
    for name in names:
        metric, lacking = table[name], ""
        found: list[Number] = []
        for key, network in networks.items():
            sides = {"fake": fake.sides[key]} | ({"real": real.sides[key]} if real else {})
            lacking = lacks(metric, sides)
            if not lacking:
                number = partial(_numbers, name, metric, key, network, sides, context, with_floor)
                found += number({"real": real.about if real else {}, "fake": fake.about})
                if not any(where in kind for kind in metric.takes for where in _BY_NETWORK):
                    break  # it does not look through a network
        if not found:
            raise ConfigError(f"`{name}` needs {lacking}", HINTS.get(lacking.split(" of ")[0], ""))
        numbers += found
    several = len(networks) > 1
    return [replace(n, name=f"{n.name} ({_label(n)})") if several else n for n in numbers]


HINTS = {
    "a reference": "name one with --against",
    "labels": "compare sources with classes",
    "logits": "name a network that classifies: --features classifier:PATH, or inception",
    "verdicts": "name a classifier of these classes: --features classifier:PATH",
    "spatial": "only Inception has an agreed spatial layer: --features inception",
    "bank": "a file of statistics alone has no single features; name the images themselves, or "
    "write it with --bank",
}

_BY_NETWORK = ("moments", "spatial", "bank", "logits", "verdicts")


def lacks(metric: Metric, sides: Mapping[str, Side]) -> str:
    """What a metric takes that the sides do not have, or nothing."""
    for name in metric.takes:
        where, _, kind = name.partition(".")
        if kind and where not in sides:
            return "a reference"
        if kind and getattr(sides[where], kind) is None:
            return f"{kind} of the {where} images"
    return ""


def _numbers(
    name: str,
    metric: Metric,
    key: str,
    network: FeatureNetwork,
    sides: dict[str, Side],
    context: Context,
    with_floor: bool,
    about: dict[str, dict[str, Any]],
) -> list[Number]:
    """One metric in one network's features: a number, or one for each of a table."""
    identity = network.identity()
    is_published = metric.published and identity.get("is_published")
    own = (metric.published if is_published else metric.title).lower() if metric.published else name
    table = _table(own, _call(metric, sides, context))
    floors: dict[str, float] = {}
    if with_floor and metric.floor == "halves" and "real" in sides:
        halves = dict(zip(SIDES, split(sides["real"], context.seed), strict=True))
        if not lacks(metric, halves):
            found = _table(own, _call(metric, halves, context))
            floors = {part: row.value for part, row in found.items()}
    elif with_floor and metric.floor in identity:
        floors = {own: identity[metric.floor]}
    takes_real = any(kind.startswith("real.") for kind in metric.takes)
    num_real = sides["real"].count if takes_real else 0
    num_fake = sides["fake"].count if any(k.startswith("fake.") for k in metric.takes) else 0
    looks = any(kind.partition(".")[2] in _BY_NETWORK for kind in metric.takes)
    protocol = {
        "metric": name,
        "variant": variant(metric.function),
        "features": identity if looks else {"kind": "none", "label": ""},
        "num_real": num_real,
        "num_fake": num_fake,
        "reference": about["real"] if takes_real else {},
        "samples": about["fake"],
    }
    made = []
    for part, row in table.items():
        is_finite = math.isfinite(row.value)
        odd = marks(protocol, sides, is_finite)
        if missing := row.details.get("missing"):
            odd += (f"{len(missing):,} classes have too few images for `{name}`: {missing[:5]}",)
        number = Number(
            metric=name,
            name=part,
            title=title(metric.title, metric.published, own, part, protocol),
            kind=metric.kind,
            value=row.value if is_finite else None,
            spread=row.spread,
            floor=floors.get(part),
            num_real=num_real,
            num_fake=num_fake,
            protocol=protocol,
            fingerprint=fingerprint(protocol),
            marks=odd,
            details=row.details,
        )
        made.append(number)
    return made


def _call(metric: Metric, sides: Mapping[str, Side], context: Context) -> Any:
    values = []
    for name in metric.takes:
        where, _, kind = name.partition(".")
        values.append(getattr(sides[where], kind) if kind else getattr(context, where))
    return metric.function(*values)


class _Row(NamedTuple):
    value: float
    spread: dict[str, float]
    details: dict[str, Any]


def _table(name: str, result: Any) -> dict[str, _Row]:
    """Values by name: `mean` or `value` of a tuple is the metric's own, numbers beside it are its
    spread, lists and tables its details; without one of these each field stands for itself."""
    if hasattr(result, "_asdict"):
        result = result._asdict()
    if not isinstance(result, dict):
        return {name: _Row(float(result), {}, {})}
    numbers = {k: float(v) for k, v in result.items() if isinstance(v, int | float)}
    details = {k: v for k, v in result.items() if k not in numbers}
    own = next((key for key in ("mean", "value") if key in numbers), None)
    if own is None:
        return {k: _Row(v, {}, {}) for k, v in numbers.items()}
    return {name: _Row(numbers.pop(own), numbers, details)}


def _label(number: Number) -> str:
    return label_of(number.protocol["features"])
