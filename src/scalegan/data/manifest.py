"""Reading and checking the manifest of a folder of shards, which may come from anybody."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalegan.errors import DataError
from scalegan.runtime.files import MANIFEST, read_json

FORMAT = 1
AGAIN = "run the same `scalegan prepare` again: sound shards are kept, others are made anew"


def short(value: Any) -> str:
    """Shorten a value to be shown in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a folder of shards, unchecked but for its format."""
    hint = "`scalegan prepare SOURCE OUT` makes shards"
    if not path.is_dir():
        raise DataError(f"there is no folder `{path}`", hint)
    try:
        manifest = read_json(path / MANIFEST)
        found = manifest["format"]
    except FileNotFoundError:
        raise DataError(f"`{path}` holds no shards: there is no `{MANIFEST}`", hint) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"`{path / MANIFEST}` cannot be read: {error}", AGAIN) from None
    if found != FORMAT:
        raise DataError(f"`{path}` has format {short(found)}; this version reads {FORMAT}")
    return manifest


def check_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Refuse a manifest where what decides the reading is missing or names a file elsewhere."""

    def is_name(value: Any) -> bool:
        return isinstance(value, str) and Path(value).name == value and "\0" not in value

    def is_count(value: Any, least: int) -> bool:
        return type(value) is int and least <= value < 2**40

    def is_shard(about: Any) -> bool:
        return (
            isinstance(about, dict)
            and is_name(about.get("name"))
            and is_count(about.get("rows"), 0)
            and isinstance(about.get("digests"), dict)
            and all(is_name(name) for name in about["digests"])
        )

    def is_row(row: Any) -> bool:
        return (
            isinstance(row, dict)
            and isinstance(row.get("shape"), list)
            and all(is_count(number, 1) for number in row["shape"])
            and isinstance(row.get("dtype"), str)
        )

    checks: dict[str, Callable[[Any], bool]] = {
        "complete": lambda value: isinstance(value, bool),
        "mirror": lambda value: isinstance(value, bool),
        "keep_images": lambda value: isinstance(value, bool),
        "class_names": lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v),
        "row": is_row,
        "shards": lambda value: isinstance(value, list) and all(map(is_shard, value)),
    }
    for name, is_good in checks.items():
        if not is_good(manifest.get(name)):
            value = short(manifest.get(name))
            raise DataError(f"`{path / MANIFEST}` is not usable: its `{name}` is {value}", AGAIN)
