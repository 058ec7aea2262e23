"""From a recipe to a checked config and back: read, override, check, resolve, write."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import TypeAdapter, ValidationError

from scalegan.config.models import MODELS, GATConfig, ModelConfig
from scalegan.config.objective import TEACHER_WIDTHS, AlignmentConfig
from scalegan.config.schema import Config
from scalegan.errors import ConfigError

RECIPES = Path(__file__).parents[1] / "recipes"
MAX_BYTES = 2**20
"""Largest size of a recipe; ours have some two thousand bytes."""
MAX_DOTS = 1000
"""Most dots between two equals signs of a recipe, comments included."""

Part = TypeVar("Part")
Choice = TypeVar("Choice")


def recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read(recipe: str) -> Config:
    """Read a recipe by name, or a TOML file; not yet resolved.

    Raises:
        ConfigError: if there is none, or it is not a valid config.
    """
    return parse(read_values(recipe))


def read_values(recipe: str) -> dict[str, Any]:
    """Read a recipe by name, or a TOML file, as a plain dictionary that nothing has checked.

    Raises:
        ConfigError: if there is none, or it is not TOML.
    """
    path = RECIPES / f"{recipe}.toml" if recipe in recipes() else Path(recipe)
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MAX_BYTES):
            raise ConfigError(f"`{path}` is no file of at most {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        near = difflib.get_close_matches(recipe, recipes(), 1) or recipes()
        raise ConfigError(
            f"there is no recipe `{recipe}` and no file of that name",
            f"recipes: {', '.join(near)}",
        ) from None
    try:
        # The time and memory that a dotted key takes grow with the square of its dots.
        if max(part.count(".") for part in text.split("=")) > MAX_DOTS:
            raise RecursionError
        return tomllib.loads(text)
    except ValueError as error:  # a TOMLDecodeError, or a number of thousands of digits
        raise ConfigError(f"`{path}` is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"`{path}` is nested too deeply") from None


def parse(values: dict[str, Any]) -> Config:
    """Values as a file has them, strictly: no unknown key, no wrong type, no value out of range."""
    data = values.get("data")
    if isinstance(data, dict) and data.get("shards") and "source" not in data:
        values = values | {"data": data | {"source": ""}}  # shards stand for the default source
    config = parse_part(Config, {k: v for k, v in values.items() if k != "model"})
    return replace(config, model=parse_model(values.get("model", {})))


def parse_model(values: Any) -> ModelConfig:
    """The model part alone, as a snapshot has it; its architecture decides what it may hold."""
    if not isinstance(values, dict):
        raise ConfigError(f"`model` is {json.dumps(values)}; expected a table")
    kind = choose(MODELS, values.get("architecture", "gat"), "model.architecture")
    return parse_part(kind, values, "model.")


def parse_part(kind: type[Part], values: dict[str, Any], prefix: str = "") -> Part:
    """One dataclass of settings from values as a file has them, strictly.

    Args:
        kind: of the dataclasses in `schema` or `models`.
        prefix: what stands before the names of its settings in messages, such as "autoencoder.".
    """
    _refuse_unknown(kind, values, prefix)
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except TypeError as error:  # a TOML date, say
        raise ConfigError(f"a value is neither text, number, list nor table: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = prefix + ".".join(str(part) for part in first["loc"])
        what = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigError(f"`{name}` is {json.dumps(first['input'])}; {what}") from None


def choose(table: Mapping[str, Choice], name: Any, setting: str) -> Choice:
    """The entry of a table that a setting names.

    Args:
        setting: its dotted name, for messages.

    Raises:
        ConfigError: if the table has no such entry.
    """
    if not isinstance(name, str) or name not in table:
        raise ConfigError(
            f"`{setting}` is {json.dumps(name)}; expected one of: {', '.join(table)}",
            suggestion(str(name), list(table)),
        )
    return table[name]


def _refuse_unknown(kind: Any, values: dict[str, Any], prefix: str) -> None:
    """Raise for the first key that no setting has."""
    known = {field.name: field for field in fields(kind)}
    for key, value in values.items():
        if key not in known:
            message = f"unknown key `{prefix}{key}`"
            raise ConfigError(message, suggestion(f"{prefix}{key}", setting_names()))
        part = known[key].type
        if is_dataclass(part) and isinstance(value, dict):
            _refuse_unknown(part, value, f"{prefix}{key}.")


def setting_names(kind: Any = Config, prefix: str = "") -> list[str]:
    """Every setting, dotted; those of all architectures stand under `model`."""
    names: list[str] = []
    for field in fields(kind):
        name = f"{prefix}{field.name}"
        parts = list(MODELS.values()) if field.type is ModelConfig else [field.type]
        for part in parts:
            is_section = isinstance(part, type) and is_dataclass(part)
            own = setting_names(part, f"{name}.") if is_section else [name]
            names += [n for n in own if n not in names]
    return names


def suggestion(word: str, words: list[str]) -> str:
    """A hint with the nearest known word, or no hint."""
    near = difflib.get_close_matches(word, words, 1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else ""


def resolve(config: Config) -> Config:
    """Fill in what is named instead of stated (a model's size, a teacher's width), and check all.

    Raises:
        ConfigError: if settings exclude each other or one has no effect.
    """
    if isinstance(config.model, GATConfig):
        supervision = config.objective.supervision
        config = replace(
            config, model=replace(config.model.with_numbers(), supervision=supervision)
        )
    config.check()
    alignment = with_teacher_width(config.objective.alignment)
    return replace(config, objective=replace(config.objective, alignment=alignment))


def with_teacher_width(alignment: AlignmentConfig) -> AlignmentConfig:
    """Fill in the feature width of a named teacher; a function handed in has no name.

    Raises:
        ConfigError: if the folder of its weights does not say its width.
    """
    if not alignment.is_used or alignment.features or not alignment.teacher:
        return alignment
    width = TEACHER_WIDTHS[alignment.teacher]
    if alignment.teacher_path:
        path = Path(alignment.teacher_path) / "config.json"
        try:
            width = int(json.loads(path.read_text(encoding="utf-8"))["hidden_size"])
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(
                f"`objective.alignment.teacher_path` is `{alignment.teacher_path}`, whose "
                "`config.json` is missing or names no `hidden_size`",
                "name a folder that `save_pretrained` wrote",
            ) from None
    return replace(alignment, features=width)


def to_toml(config: Config) -> str:
    """The config as TOML; `parse` reads it back to an equal one."""
    return tomli_w.dumps(asdict(config))
