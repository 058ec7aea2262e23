"""Words of a command line become the dataclass of a command; a mistake becomes one sentence."""

import contextlib
import io
import re
from dataclasses import asdict, fields, replace
from typing import Any

import tyro

from scalegan.commands.options import Compare, Plan, Train
from scalegan.config.schema import Config
from scalegan.errors import ConfigError


def positional(arguments: list[str], name: str) -> tuple[str | None, list[str]]:
    """The first argument, if it is not a flag, and the rest."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    if arguments and not {"-h", "--help"} & set(arguments):
        raise ConfigError(f"`{arguments[0]}` comes before {name}", f"put {name} first")
    return None, arguments


def parse(
    kind: type, name: str, what: str, arguments: list[str], about: str = "", default: Any = None
) -> Any:
    """Flags from the fields of a dataclass; a mistake becomes one sentence.

    Raises:
        ConfigError: for an unknown flag or a value of the wrong type.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed, unknown = tyro.cli(
                kind,
                prog=f"scalegan {name} {what}",
                description=f"{kind.__doc__} {about}",
                args=arguments,
                default=kind() if default is None else default,
                return_unknown_args=True,
                # The recipe's architecture decides which sizes there are.
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(sentence(errors.getvalue()), f"`scalegan {name} --help`") from None
    if unknown:
        from scalegan.config.reading import suggestion

        hint = suggestion(unknown[0].split("=")[0], flags(kind, default))
        hint = hint or f"`scalegan {name} --help` lists all options"
        raise ConfigError(f"unknown option `{unknown[0]}`", hint)
    return parsed


def flags(kind: type, default: Any) -> list[str]:
    """The flags that a command's fields make, and those of its recipe, if it takes one."""
    from scalegan.config.reading import setting_names

    names = [f.name for f in fields(kind) if f.name != "config"]
    if kind in (Train, Plan, Compare):
        sizes = {f"model.{field.name}" for field in fields(default.config.model)}
        names += [n for n in setting_names() if not n.startswith("model.") or n in sizes]
    return [f"--{name.replace('_', '-')}" for name in names]


def sentence(box: str) -> str:
    """The message of tyro's framed error: what stands between its title and the next rule."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]
    message: list[str] = []
    for line in lines:
        is_rule = not line.strip("─-╰╯ ")
        if is_rule and message:
            break
        message += [] if is_rule else [line]
    return " ".join(message).removeprefix("Error parsing ").rstrip(".")


def with_config(kind: type, name: str, arguments: list[str]) -> tuple[Any, Config]:
    """Flags of a command that takes a recipe, and the recipe with its overrides, resolved."""
    from scalegan.config import reading as configs

    recipe, arguments = positional(arguments, "RECIPE")
    given = configs.read(recipe) if recipe else Config()
    about = f"Recipes: {', '.join(configs.recipes())}."
    parsed = parse(kind, name, "RECIPE", arguments, about, kind(config=given))
    if recipe is None:
        raise ConfigError(f"`scalegan {name}` needs a recipe or a config.toml", about)
    config = parsed.config
    if getattr(config.model, "size", "") != getattr(given.model, "size", ""):
        # A size on the command line replaces the file's numbers, unless they are given too.
        same = {n: 0 for n in ("width", "depth", "num_heads")
                if getattr(config.model, n) == getattr(given.model, n)}  # fmt: skip
        config = replace(config, model=replace(config.model, **same))
    before, now = given.data, config.data
    if now.shards != before.shards and now.source == before.source:
        config = replace(
            config, data=replace(now, source="")
        )  # shards instead of the file's source
    elif now.source != before.source and now.shards == before.shards:
        config = replace(config, data=replace(now, shards=""))
    return parsed, configs.resolve(configs.parse(asdict(config)))


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
