"""Settings that a user gives beside a recipe are merged into it and checked once."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from scalegan.config.models import DISCRIMINATOR_NUMBERS, Size
from scalegan.config.reading import parse, read_values, resolve
from scalegan.config.schema import Config
from scalegan.errors import ConfigError


def read_with(recipe: str, overrides: Mapping[str, Any]) -> Config:
    """Read a recipe by name, or a TOML file, with other values for some of its settings; resolved.

    Args:
        overrides: values by dotted name, such as {"train.batch_size": 128}.

    Raises:
        ConfigError: if there is no such recipe, or a setting is unknown or out of range.
    """
    return resolve(parse(merge(read_values(recipe), overrides)))


def merge(values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values with others in their place.

    A named size also replaces the numbers that the recipe has for it, shards replace its source and
    a source its shards, unless these are among the overrides themselves.

    Raises:
        ConfigError: if the recipe has a value where a table is expected.
    """
    merged = deepcopy(values)
    replaced = {
        "model.size": [f"model.{name}" for name in Size._fields],
        "model.discriminator": [f"model.{name}" for name in DISCRIMINATOR_NUMBERS],
        "data.shards": ["data.source"],
        "data.source": ["data.shards"],
    }
    for name, value in overrides.items():
        for other in replaced.get(name, []) if value else []:
            table, key = _find(merged, other)
            table.pop(key, None)
    for name, value in overrides.items():
        table, key = _find(merged, name)
        table[key] = value
    return merged


def _find(values: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The table of a dotted name, made where there is none, and the name's last part."""
    *parts, key = name.split(".")
    for part in parts:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"`{part}` of `{name}` is a value; expected a table")
    return values, key
