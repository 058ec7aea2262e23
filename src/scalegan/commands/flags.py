"""The words of a command line become the flags of a command; a mistake becomes one sentence."""

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial, reduce
from inspect import getdoc
from itertools import groupby
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro
from annotated_types import Ge

from scalegan.config import reading
from scalegan.config.schema import Config
from scalegan.errors import ConfigError

UNSET = tyro.conf.arg(help_behavior_hint="")
"""Of a flag whose sentence says what happens if it is not given."""
OUT = tyro.conf.arg(aliases=["-o"])
Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
T = TypeVar("T")

SYNONYMS = {
    "against": ["reference"],
    "budget": ["duration"],
    "classes": ["class"],
    "device": ["cuda", "gpu"],
    "learning-rate": ["lr"],
    "num": ["num-images"],
    "optim.learning-rate": ["learning-rate", "lr", "optim.lr"],
    "out": ["outdir", "output"],
    "size": ["resolution"],
    "train.batch-size": ["batch", "batch-size"],
    "train.duration": ["epochs", "iterations", "steps"],
    "truncation": ["psi", "trunc"],
}
"""By flag: what other programs call it."""


def parse_flags(kind: type[T], name: str, arguments: list[str], config: Config | None = None) -> T:
    """The flags of a command, checked.

    Args:
        kind: a dataclass: a field is a flag, the sentence below it its help text.
        name: of the command.
        config: what the defaults of the settings are, for a command that takes a recipe.

    Raises:
        ConfigError: for an unknown flag, a missing argument or a value that does not fit.
    """
    about = getdoc(kind) or ""
    if config is not None:
        about += f"\n\nRecipes: {', '.join(reading.recipes())}."
    if {"-h", "--help"} & set(arguments):
        arguments = ["--help"]  # else tyro's help leaves out the arguments that are there
    _refuse_unknown(kind, name, arguments, config)
    make: Callable[..., T] = kind
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed, surplus = tyro.cli(
                make if config is None else partial(make, config=config),
                prog=f"scalegan {name}",
                description=about,
                args=arguments,
                return_unknown_args=True,
                config=(
                    tyro.conf.AvoidSubcommands,  # the recipe's architecture decides its sizes
                    tyro.conf.DisallowNone,
                    tyro.conf.PositionalMetavarFromFieldName,
                ),
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        raise ConfigError(
            _message(kind, name, errors.getvalue()), f"`scalegan {name} --help` explains it"
        ) from None
    if surplus:
        raise ConfigError(f"`{surplus[0]}` is one argument too many for `scalegan {name}`")
    _check_ranges(parsed)
    return parsed


def parse_with_recipe(kind: type[T], name: str, arguments: list[str]) -> tuple[T, dict[str, Any]]:
    """The flags of a command whose first argument is a recipe, and the settings among them.

    Args:
        kind: as of `parse`; its first field takes the recipe, its field `config` the settings.

    Returns:
        The flags, and the settings that were given, by dotted name; no others.

    Raises:
        ConfigError: for a recipe that cannot be read, and as `parse`.
    """
    is_help = bool({"-h", "--help"} & set(arguments))
    if not arguments:
        names = ", ".join(reading.recipes())
        raise ConfigError(f"`scalegan {name}` needs RECIPE", f"a config.toml, or one of: {names}")
    recipe = arguments[0]
    if recipe.startswith("-") and not is_help:
        raise ConfigError(f"`{recipe}` comes before RECIPE", "put RECIPE first")
    config = Config() if recipe.startswith("-") else reading.read(recipe)
    flags: Any = parse_flags(kind, name, arguments, config)
    words = {word.split("=")[0].replace("_", "-") for word in arguments if word.startswith("--")}
    settings = {
        setting: reduce(getattr, setting.split("."), flags.config)
        for setting in reading.setting_names()
        if words & _spellings(setting)
    }
    return flags, settings


def parse_seeds(text: str) -> list[int]:
    """Seeds of "0-63" or "1,5,9-12".

    Raises:
        ConfigError: if it is neither.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ConfigError(f'`--seeds` is "{text}"; expected seeds such as 0-63 or 1,5,9')
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    return seeds


def parse_classes(text: str) -> list[str] | None:
    """Names or indices of "cat,dog"; None, all classes, if there are none."""
    return [part.strip() for part in text.split(",") if part.strip()] or None


def _refuse_unknown(kind: type, name: str, arguments: list[str], config: Config | None) -> None:
    """Raise for the first flag that the command does not have, with the nearest one that it has."""
    flags = _flags(kind, config)
    known = {"--help", "-o" if "out" in flags else ""}.union(*map(_spellings, flags))
    for word in arguments:
        typed = word.split("=")[0]
        if not re.match("--?[a-zA-Z]", typed) or typed.replace("_", "-") in known:
            continue
        bare = typed.lstrip("-").replace("_", "-")
        near = next((flag for flag in flags if bare in SYNONYMS.get(flag, [])), "")
        choices = [f"--{flag}" for flag in flags]
        hint = f"did you mean `--{near}`?" if near else reading.suggestion(typed, choices)
        raise ConfigError(
            f"unknown option `{typed}`", hint or f"`scalegan {name} --help` lists all options"
        )


def _spellings(name: str) -> set[str]:
    """How a flag may be typed; tyro has a second form for what is true or false."""
    *parts, last = name.replace("_", "-").split(".")
    return {"--" + ".".join([*parts, last]), "--" + ".".join([*parts, f"no-{last}"])}


def _flags(kind: type, config: Config | None) -> list[str]:
    """Every flag of a command, those of its settings included, without the dashes."""
    names = []
    for field in fields(kind):
        if field.name != "config":
            names += [] if field.name in _required(kind) else [field.name]
        elif config is None:
            names += [f.name for f in fields(field.default_factory)]  # type: ignore[arg-type]
        else:
            sizes = {f"model.{f.name}" for f in fields(config.model)}
            names += [n for n in reading.setting_names() if n[:6] != "model." or n in sizes]
    return [name.replace("_", "-") for name in names]


def _message(kind: type, name: str, box: str) -> str:
    """What tyro refuses; the one way to learn it is the first paragraph of its framed text."""
    lines = (line.strip("│| ") for line in box.splitlines()[1:])
    paragraphs = groupby(lines, key=lambda line: bool(line.strip("─-")))
    message = next(" ".join(text) for is_text, text in paragraphs if is_text).rstrip(".")
    if message.startswith("Missing from"):
        return f"`scalegan {name}` needs {' and '.join(map(str.upper, _required(kind)))}"
    no_number = "Error parsing (.*): (?:invalid literal|could not convert).*: '(.*)'"
    message = re.sub(no_number, r"`\1` is `\2`; expected a number", message)
    message = message.removeprefix("Error parsing ").replace(". Expected", "; expected")
    message = message.replace("expected 1 values", "expected one")
    return message[0].lower() + message[1:].replace("'", "`")


def _required(kind: type) -> list[str]:
    """The arguments without which a command does not start; all others are flags."""
    return [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]


def _check_ranges(flags: Any) -> None:
    """Raise for the first number below what its field's annotation allows."""
    for name, hint in get_type_hints(type(flags), include_extras=True).items():
        value = getattr(flags, name)
        for limit in get_args(hint):
            if isinstance(limit, Ge) and value is not None and value < limit.ge:
                flag = name.replace("_", "-")
                raise ConfigError(f"`--{flag}` is {value}; expected {limit.ge} or more")
