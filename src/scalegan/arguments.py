"""Words of a command line become the dataclass of a command; a mistake becomes one sentence."""

import contextlib
import io
from dataclasses import fields
from typing import Any

import tyro

from scalegan.errors import ConfigError
from scalegan.options import Compare, Plan, Train


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
                # The recipe says which architecture's sizes `model` has.
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(sentence(errors.getvalue()), f"`scalegan {name} --help`") from None
    if unknown:
        from scalegan.config import suggestion

        word = unknown[0].split("=")[0]
        hint = suggestion(word, flags(kind))
        if word in flags(kind):
            hint = "the architecture of this recipe has no such setting"
        hint = hint or f"`scalegan {name} --help` lists all options"
        raise ConfigError(f"unknown option `{unknown[0]}`", hint)
    return parsed


def flags(kind: type) -> list[str]:
    """The flags that a command's fields make."""
    from scalegan.config import setting_names

    names = [f.name for f in fields(kind) if f.name != "config"]
    names += setting_names() if kind in (Train, Plan, Compare) else []
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
