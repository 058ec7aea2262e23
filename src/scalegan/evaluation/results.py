"""Results of evaluations on disk: written, read, printed as a table, and two of them compared."""

import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from scalegan.errors import ConfigError, DataError
from scalegan.evaluation.measure import Number
from scalegan.evaluation.protocol import refuse_unlike
from scalegan.runtime.files import read_json, write_json
from scalegan.runtime.text import aligned

FORMAT = 2
SPREADS = (("standard_error", "se"), ("std", "std"))
"""What is shown of a spread: the error of the value if it is known, else the deviation."""
COLUMNS = ("", "value", "spread", "real images", "N real", "N generated", "fingerprint")


def write_result(path: Path, numbers: list[Number]) -> None:
    """Write numbers with their protocols as JSON."""
    about = {
        "format": FORMAT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "precision": "float32 in networks, float64 in metrics",
        "numbers": [asdict(number) for number in numbers],
    }
    write_json(path, json.loads(json.dumps(about, default=str)))


def read_result(path: Path) -> list[Number]:
    """Read what `write_result` wrote.

    Raises:
        DataError: if it is not that, or of another format.
    """
    try:
        result: Any = read_json(path)
        if result["format"] != FORMAT:
            raise DataError(
                f"result `{path}` has format {result['format']}; this version reads {FORMAT}",
                "evaluate again: numbers of different formats have different fingerprints",
            )
        found = result["numbers"]
        return [Number(**number | {"marks": tuple(number["marks"])}) for number in found]
    except FileNotFoundError:
        raise DataError(
            f"there is no result `{path}`", "`scalegan evaluate --out` makes one"
        ) from None
    except DataError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"`{path}` is no result of `scalegan evaluate`: {error}") from None


def recorded(run: Path) -> list[Number]:
    """The numbers that a run has evaluated last; none if there are none of this version."""
    try:
        return read_result(run / "evaluation.json")
    except DataError:
        return []


def results_table(numbers: list[Number]) -> list[str]:
    """Format numbers as lines of a table."""
    rows: list[tuple[str, ...]] = [COLUMNS, *map(cells, numbers)]
    if all(number.floor is None for number in numbers):
        rows = [(*row[:3], *row[4:]) for row in rows]
    lines = aligned(rows, ">")
    lines += [line for number in numbers for line in worst_classes(number)]
    marks = dict.fromkeys(f"notice: {m}" for number in numbers for m in number.marks)
    return [*lines, *marks]


def cells(number: Number) -> tuple[str, ...]:
    """A number as the cells of a row below `COLUMNS`."""
    spreads = [f"{figure(number.spread[k])} {name}" for k, name in SPREADS if k in number.spread]
    return (
        number.title,
        figure(number.value),
        spreads[0] if spreads else "-",
        figure(number.floor),
        f"{number.num_real:,}" if number.num_real else "-",
        f"{number.num_fake:,}",
        number.fingerprint,
    )


def worst_classes(number: Number, count: int = 5) -> list[str]:
    """A line with the classes that are furthest from the real ones, where classes were measured."""
    distances = number.details.get("distances")
    if not isinstance(distances, dict):
        return []
    names = number.protocol["samples"].get("class_names") or []
    by_distance = sorted(distances, key=lambda label: -distances[label])
    texts = [
        f"{names[label] if label < len(names) else label} {figure(distances[label])}"
        for label in by_distance
    ]
    best = ", ".join(texts[count:][-count:])
    return [f"worst classes: {', '.join(texts[:count])}" + (f"; best: {best}" if best else "")]


def diff(first: Path, second: Path) -> list[str]:
    """Two results side by side, as lines.

    Raises:
        ConfigError: if they are not comparable, naming what differs.
        DataError: if one is no result.
    """
    a, b = ({n.name: n for n in read_result(path)} for path in (first, second))
    shared = [name for name in a if name in b]
    if not shared:
        raise ConfigError(f"`{first}` and `{second}` have no metric in common")
    rows: list[Sequence[str]] = [("", first.name, second.name, "difference")]
    for name in shared:
        refuse_unlike(name, a[name].protocol, b[name].protocol)
        then, now = a[name].value, b[name].value
        gap = None if then is None or now is None else now - then
        rows.append((a[name].title, figure(then), figure(now), figure(gap)))
    return aligned(rows, ">")


def figure(value: float | None) -> str:
    """Four digits of a number, for people."""
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
