"""The protocol of a number: its name, its warnings, and whether it may be compared with another.

docs/evaluate.md says what is recorded.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from scalegan.errors import ConfigError
from scalegan.evaluation.collect import Field, SetFeatures
from scalegan.metrics.frechet import too_few

STANDARD_COUNT = 50_000


def title(base: str, inception_title: str, protocol: Mapping[str, Any]) -> str:
    """The name of a number: published names are for published protocols alone.

    Args:
        base: its name in any features.
        inception_title: its name in the published Inception network's.
    """
    label, count = label_of(protocol["features"]), protocol["num_fake"]
    if inception_title and protocol["features"].get("is_published"):
        short = count if count % 1000 else f"{count // 1000}k"
        return inception_title if count == STANDARD_COUNT else f"{inception_title}-{short}"
    return f"{base} ({label})" if label else base


def label_of(features: Mapping[str, Any]) -> str:
    """A feature network in a few words: its kind, and the start of its digest."""
    digest = str(features.get("digest", features.get("weights", "")))
    short = f"{features['kind']} {digest.removeprefix('tensors-')[:4]}".strip()
    return str(features.get("label", short))


def comparable(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a protocol that two numbers must have in common."""
    features = {k: v for k, v in protocol["features"].items() if k not in ("label", "path")}
    samples = protocol["samples"]
    return {
        "definition": protocol["definition"],
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
    protocol: Mapping[str, Any], fake: SetFeatures, taken: Collection[Field], is_finite: bool
) -> tuple[str, ...]:
    """What a reader should know before believing a number, in sentences.

    Args:
        taken: what the metric takes of the generated images.
        is_finite: whether the value is.
    """
    found = [] if is_finite else ["the value is not finite"]
    for name, moments in ((Field.MOMENTS, fake.moments), (Field.SPATIAL, fake.spatial)):
        if name in taken and moments is not None:
            few = min(fake.count, protocol["num_real"] or fake.count)
            found += [sentence] if (sentence := too_few(few, len(moments.mean))) else []
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
    """Refuse to compare numbers of different protocols.

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
