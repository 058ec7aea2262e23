"""What is recorded of a number, and which numbers may be compared."""

from typing import Any

import pytest

from scalegan.errors import ConfigError
from scalegan.evaluation.protocol import comparable, fingerprint, refuse_unlike
from tests.unit.evaluation.test_measure import images, run

PROTOCOL = {
    "metric": "pr",
    "definition": {"id": "precision-recall", "k": 3},
    "features": {"kind": "inception", "digest": "6726825d", "path": "x"},
    "num_real": 50_000,
    "num_fake": 10_000,
    "reference": {"digest": "00ff"},
    "samples": {"side": 256, "rounding": "nearest", "classes": "balanced", "truncation": 0.5},
}


def test_a_fingerprint_stays_what_it_was() -> None:
    """Results on disk are compared by it: a change here needs a new format of results."""
    assert fingerprint(PROTOCOL) == "bc68601b10dd"


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("", "num_fake", 10, "its `num_fake` is 50 in the first and 10 in the second"),
        ("features", "digest", "ff", "its `features.digest` is 'ab12'"),
        ("features", "resize", "clean", "its `features.resize` is None"),
        ("reference", "digest", "ff", "its `reference` is"),
        ("definition", "k", 5, "its `definition.k` is 3"),
        ("samples", "rounding", "truncate", "its `rounding` is 'nearest'"),
    ],
)
def test_unlike_numbers_are_refused(part: str, key: str, value: Any, message: str) -> None:
    number = run(["pr"], images(60), images(50, 1))["precision"]
    refuse_unlike("precision", number.protocol, number.protocol)
    other = dict(number.protocol)
    if part:
        other[part] = other[part] | {key: value}
    else:
        other[key] = value
    assert fingerprint(other) != number.fingerprint
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        refuse_unlike("precision", number.protocol, other)


def test_truncation_and_paths_do_not_forbid_a_comparison() -> None:
    number = run(["pr"], images(60), images(50, 1))["precision"]
    other = number.protocol | {"samples": number.protocol["samples"] | {"truncation": 0.5}}
    other["features"] = other["features"] | {"path": "elsewhere", "label": "x"}
    assert comparable(other) == comparable(number.protocol)
