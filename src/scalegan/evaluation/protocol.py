"""What a number was measured by: its name, its marks, and whether it may be compared.

docs/evaluate.md says what is recorded.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from scalegan.errors import ConfigError
from scalegan.evaluation.collect import Side
from scalegan.metrics.frechet import too_few

STANDARD_COUNT = 50_000


def title(base: str, published: str, name: str, part: str, protocol: Mapping[str, Any]) -> str:
    """What a number may be called: published names are for published protocols alone."""
    features, label = protocol["features"], label_of(protocol["features"])
    if published and features.get("is_published"):
        count = protocol["num_fake"]
        return published + ("" if count == STANDARD_COUNT else f"-{_short(count)}")
    base = base if part == name else part.replace("_", " ")
    return f"{base} ({label})" if label else base


def label_of(features: Mapping[str, Any]) -> str:
    """A feature network in a few words: its kind, and the start of its digest."""
    digest = str(features.get("digest", features.get("weights", "")))
    short = f"{features['kind']} {digest.removeprefix('tensors-')[:4]}".strip()
    return str(features.get("label", short))


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def variant(called: Any) -> dict[str, Any]:
    """The function's name and its keyword defaults, such as k or the number of subsets."""
    function: Any = called
    given: dict[str, Any] = {}
    if isinstance(function, partial):
        function, given = function.func, function.keywords
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    plain = {k: v for k, v in (defaults | given).items() if isinstance(v, int | float | str)}
    return {"function": getattr(function, "__name__", ""), **plain}


def comparable(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a protocol that two numbers must have in common."""
    features = {k: v for k, v in protocol["features"].items() if k not in ("label", "path")}
    samples = protocol["samples"]
    return {
        "metric": protocol["metric"],
        "variant": protocol["variant"],
        "features": features,
        "num_real": protocol["num_real"],
        "num_fake": protocol["num_fake"],
        "reference": protocol["reference"].get("digest", ""),
        "side": samples.get("side", 0),
        "rounding": samples.get("rounding", ""),
        "classes": samples.get("classes", ""),
    }


def fingerprint(protocol: Mapping[str, Any]) -> str:
    """A short digest of what makes numbers comparable."""
    text = json.dumps(comparable(protocol), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def marks(
    protocol: Mapping[str, Any], sides: Mapping[str, Side], is_finite: bool
) -> tuple[str, ...]:
    """What a reader should know before believing a number (metrics.md, section 6)."""
    found = [] if is_finite else ["the value is not finite"]
    fake = sides["fake"]
    of_features = fake.moments is not None or fake.bank is not None
    if protocol["variant"]["function"].startswith("frechet") and of_features:
        width = len(fake.moments.mean) if fake.moments else fake.bank.shape[1]  # type: ignore[union-attr]
        few = min(fake.count, protocol["num_real"] or fake.count)
        found += [sentence] if (sentence := too_few(few, width)) else []
    wanted = protocol["samples"].get("requested", fake.count)
    if wanted != fake.count:
        found.append(f"{fake.count:,} images came where {wanted:,} were asked for")
    if fake.hashes is not None:
        copies = fake.count - len(fake.hashes.unique())
        if copies:
            found.append(f"{copies:,} samples are exact copies of others")
    ours, theirs = protocol["samples"].get("side"), protocol["reference"].get("side")
    if theirs and ours != theirs:
        found.append(f"samples are {ours} pixels wide, the reference {theirs}")
    return tuple(found)


def refuse_unlike(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Numbers of different protocols say nothing about each other.

    Raises:
        ConfigError: naming what differs.
    """
    first, second = comparable(a), comparable(b)
    for field in first:
        if first[field] == second[field]:
            continue
        then, now = first[field], second[field]
        if isinstance(then, dict) and isinstance(now, dict):
            key = next(k for k in sorted({*then, *now}) if then.get(k) != now.get(k))
            field, then, now = f"{field}.{key}", then.get(key), now.get(key)
        raise ConfigError(
            f"`{name}` is not comparable: its `{field}` is {_brief(then)} in the first and "
            f"{_brief(now)} in the second",
            "measure both the same way",
        )


def _brief(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
