"""From a recipe to a checked config and back: read, override, check, resolve, write."""

import difflib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import TypeAdapter, ValidationError

from scalegan.config.models import GAT_SIZES, MODELS, GATConfig, Model, Size
from scalegan.config.schema import (
    TEACHER_WIDTHS,
    AlignmentConfig,
    AutoencoderConfig,
    ClassifierConfig,
    Config,
    FitConfig,
    ObjectiveConfig,
)
from scalegan.errors import ConfigError

RECIPES = Path(__file__).parents[1] / "recipes"
UNITS = ("steps", "images", "epochs")
MOST_BYTES = 2**20
"""Of a recipe; ours have some two thousand."""
MOST_DOTS = 1000
"""Between two equals signs of a recipe, comments included."""
TIMES = {"seconds": 1, "minutes": 60, "hours": 3600}
MULTIPLES = {"k": 10**3, "M": 10**6}


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
        if path.exists() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
            raise ConfigError(f"`{path}` is no file of at most {MOST_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        near = difflib.get_close_matches(recipe, recipes(), 1) or recipes()
        raise ConfigError(
            f"there is no recipe `{recipe}` and no file of that name",
            f"recipes: {', '.join(near)}",
        ) from None
    try:
        # The time and memory that a dotted key takes grow with the square of its dots.
        if max(part.count(".") for part in text.split("=")) > MOST_DOTS:
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
    config: Config = _parse(Config, {k: v for k, v in values.items() if k != "model"}, "")
    return replace(config, model=parse_model(values.get("model", {})))


def parse_model(values: Any) -> Model:
    """The model part alone, as a snapshot has it; its architecture decides what it may hold."""
    if not isinstance(values, dict):
        raise ConfigError(f"`model` is {json.dumps(values)}; expected a table")
    name = values.get("architecture", "gat")
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(
            f"`model.architecture` is {json.dumps(name)}; expected one of: {', '.join(MODELS)}"
        )
    model: Model = _parse(MODELS[name], values, "model.")
    return model


def parse_autoencoder(values: dict[str, Any]) -> AutoencoderConfig:
    """The autoencoder part alone, as `scalegan prepare` is given it."""
    return _parse(AutoencoderConfig, values, "autoencoder.")


def parse_fit(values: dict[str, Any]) -> FitConfig:
    """Settings of an autoencoder's training."""
    config: FitConfig = _parse(FitConfig, values, "")
    parse_duration(config.duration, "duration")
    parse_duration(config.checkpoint, "checkpoint")
    if config.lpips != FitConfig().lpips and not config.lpips_path:
        raise ConfigError("`lpips` is set but there is no `lpips_path`", "set it to a file")
    return config


def parse_classifier(values: dict[str, Any]) -> ClassifierConfig:
    """Settings of a classifier's training."""
    return _parse(ClassifierConfig, values, "")


def _parse(kind: Any, values: dict[str, Any], prefix: str) -> Any:
    _refuse_unknown(kind, values, prefix)
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except (ValidationError, TypeError) as error:
        if isinstance(error, TypeError):  # a TOML date, say
            raise ConfigError(f"a value is neither text, number, list nor table: {error}") from None
        first = error.errors()[0]
        name = prefix + ".".join(str(part) for part in first["loc"])
        what = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigError(f"`{name}` is {json.dumps(first['input'])}; {what}") from None


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
    """Every setting, dotted."""
    names: list[str] = []
    for field in fields(kind):
        name = f"{prefix}{field.name}"
        parts = [
            part
            for part in get_args(field.type) or [field.type]
            if isinstance(part, type) and is_dataclass(part)
        ]
        found = [n for part in parts for n in setting_names(part, f"{name}.")] or [name]
        names += [n for n in dict.fromkeys(found) if n not in names]
    return names


def suggestion(word: str, words: list[str]) -> str:
    """A hint with the nearest known word, or no hint."""
    near = difflib.get_close_matches(word, words, 1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else ""


def resolve(config: Config) -> Config:
    """Replace a model size by the numbers that are not set; check what no one setting can show.

    Raises:
        ConfigError: if settings exclude each other or one has no effect.
    """
    if isinstance(config.model, GATConfig):
        config = replace(config, model=_with_numbers(config.model))
    data = config.data
    if bool(data.source) == bool(data.shards):
        raise ConfigError(
            "`data.source` and `data.shards` are " + ("both set" if data.source else "not set"),
            "set one of them: a source is encoded into memory at the start, shards stay on disk",
        )
    if data.source and data.verify != type(data)().verify:
        raise ConfigError("`data.verify` is set but there are no `data.shards` to verify")
    if data.shards and data.size:
        raise ConfigError("`data.size` is set but the images of `data.shards` have their size")
    autoencoder = config.autoencoder
    if autoencoder.kind == "identity" and autoencoder != type(autoencoder)():
        raise ConfigError(
            "`autoencoder` is set but its kind is identity",
            "set `autoencoder.kind`, for example to kl, or leave the rest out",
        )
    if autoencoder.kind in ("kl", "tiny", "taef2") and not autoencoder.path:
        raise ConfigError(
            f"`autoencoder.kind` `{autoencoder.kind}` needs `autoencoder.path`",
            "name the folder that holds its files",
        )
    _check_objective(config.objective)
    if config.train.share_noise and config.train.discriminator_turns > 1:
        raise ConfigError(
            "`train.share_noise` is set but there are several `train.discriminator_turns`",
            "set it to false: every turn draws its own",
        )
    if config.train.parallel == "shard" and config.objective.penalty.kind == "exact":
        raise ConfigError(
            "`train.parallel` is `shard` but an exact penalty needs second derivatives, which "
            "sharded weights do not carry",
            "set `objective.penalty.kind` to finite-difference, or `train.parallel` to replicate",
        )
    if config.optim.base_width and not hasattr(config.model, "width"):
        raise ConfigError(
            f"`optim.base_width` is set but `{config.model.architecture}` has no one width",
            "set it to 0: the rates hold as they are stated",
        )
    objective = config.objective
    if objective.alignment.weight == 0 and objective.alignment != type(objective.alignment)():
        raise ConfigError(
            "`objective.alignment` is set but its weight is 0", "set the weight or leave it out"
        )
    if objective.alignment.weight > 0:
        objective = replace(objective, alignment=_with_width(objective.alignment))
        config = replace(config, objective=objective)
    if objective.augment.in_turn and not objective.augment.color:
        raise ConfigError(
            "`objective.augment.in_turn` is set but `objective.augment.color` is 0",
            "it says in which order colors change; leave it out",
        )
    noise = objective.noise
    if noise.min_information <= noise.floor:
        raise ConfigError(
            f"`objective.noise.min_information` {noise.min_information} is not above "
            f"`objective.noise.floor` {noise.floor}",
            "the coarsest level would be noise alone",
        )
    parse_duration(config.train.duration, "train.duration", (*UNITS, *TIMES))
    for field in fields(config.every):
        text = getattr(config.every, field.name)
        if text or field.name != "evaluate":
            parse_duration(text, f"every.{field.name}")
    if config.every.evaluate and not config.evaluate.num_images:
        raise ConfigError(
            "`every.evaluate` is set but `evaluate.num_images` is 0", "set both, or neither"
        )
    return config


def _with_numbers(model: GATConfig) -> GATConfig:
    """The numbers that a named size stands for."""
    numbers = {name: getattr(model, name) for name in Size._fields}
    if model.size:
        named = GAT_SIZES[model.size]._asdict()
        numbers = {name: number or named[name] for name, number in numbers.items()}
    for name, number in numbers.items():
        if not number:
            raise ConfigError(
                f"`model.{name}` is not set", "set it, or `model.size` to one of the named sizes"
            )
    return replace(model, size="", **numbers)


def _check_objective(objective: ObjectiveConfig) -> None:
    """Raise where terms exclude each other or one has no effect."""
    penalty, path = objective.penalty, objective.path_length
    if not objective.joint_batch and objective.alignment.weight > 0:
        raise ConfigError(
            "`objective.alignment` is set but `objective.joint_batch` is false",
            "no network that is aligned looks across the batch: leave `joint_batch` out",
        )
    if penalty.kind == "exact" and penalty.sigma != type(penalty)().sigma:
        raise ConfigError("`objective.penalty.sigma` is set but an exact penalty has no step")
    augment = objective.augment
    is_augmented = any((augment.color, augment.translation, augment.cutout, augment.flip))
    if objective.consistency > 0 and not is_augmented:
        raise ConfigError(
            "`objective.consistency` is set but `objective.augment` changes nothing",
            "say how samples are augmented, or leave both out",
        )
    if penalty.lazy and penalty.every == 1:
        raise ConfigError("`objective.penalty.lazy` is set but no step is skipped")
    if path.weight > 0 and not path.every:
        raise ConfigError(
            "`objective.path_length.weight` is set but `objective.path_length.every` is not",
            "say every how many steps; 4 is usual",
        )


def _with_width(alignment: AlignmentConfig) -> AlignmentConfig:
    """Fill in the feature width of the teacher that is named; a function handed in has no name."""
    if alignment.teacher_path and not alignment.teacher:
        raise ConfigError(
            "`objective.alignment.teacher_path` is set without `objective.alignment.teacher`",
            f"name the kind of network that it holds: {', '.join(TEACHER_WIDTHS)}",
        )
    if alignment.features or not alignment.teacher:
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


def parse_duration(text: str, name: str, units: Sequence[str] = UNITS) -> tuple[float, str]:
    """A number and a unit: "150k steps", "50M images", "60 epochs".

    Raises:
        ConfigError: if it is neither.
    """
    number, _, unit = text.strip().partition(" ")
    digits, multiple = number.rstrip("kM"), number[len(number.rstrip("kM")) :]
    try:
        amount = float(digits) * MULTIPLES[multiple] if multiple else float(digits)
    except (ValueError, KeyError):
        amount = 0
    unit = unit.strip().rstrip("s") + "s"
    if unit not in units or not 0 < amount < float("inf"):
        raise ConfigError(
            f'`{name}` is "{text}"; expected a positive number and a unit',
            'for example "150k steps", "50M images" or "60 epochs"',
        )
    return amount, unit


def count_steps(text: str, name: str, batch_size: int, num_rows: int) -> int:
    """A duration in steps, at least one, rounded up."""
    amount, unit = parse_duration(text, name)
    images_per_unit = {"steps": batch_size, "images": 1, "epochs": num_rows}[unit]
    return max(1, int(-(-amount * images_per_unit // batch_size)))


def count_seconds(text: str) -> float:
    """A duration in seconds of training, or 0 if it is counted in something else."""
    amount, unit = parse_duration(text, "train.duration", (*UNITS, *TIMES))
    return amount * TIMES.get(unit, 0)


def write(config: Config) -> str:
    """The config as TOML; `parse` reads it back to an equal one."""
    return tomli_w.dumps(asdict(config))
