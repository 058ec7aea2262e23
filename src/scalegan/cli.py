"""The command line: a table of commands, and what their errors and exit codes are."""

import sys
from collections.abc import Callable
from typing import NoReturn

from scalegan.errors import ConfigError, ScaleganError
from scalegan.version import __version__

COMMANDS = {
    "prepare": ("SOURCE OUT", "crop, encode and verify images: shards to train on"),
    "train": ("RECIPE", "train from a recipe or config.toml, or resume a run"),
    "check": ("SOURCE", "inspect every image and label before training"),
    "sample": ("RUN", "draw images: a grid, a folder of PNGs or an .npz"),
    "visualize": ("RUN", "draw views: walks, truncation, levels, styles, attention"),
    "compare": ("RECIPE RECIPE ...", "train recipes at equal time or compute, and write a page"),
    "study": ("NAME RECIPE", "train variants of a recipe: sizes, patches, rates, levels, ..."),
    "evaluate": ("IMAGES", "measure FID, precision, recall, ... against a reference"),
    "diff": ("A.json B.json", "show two results of evaluate side by side"),
    "report": ("RUN", "write a page about a run: images, curves, numbers, cost"),
    "statistics": ("SOURCE OUT.npz", "write the statistics of a reference set"),
    "classifier train": ("SOURCE OUT", "train a small classifier, to evaluate with"),
    "autoencoder train": ("SOURCE", "train a small autoencoder, to train on its latents"),
    "info": ("RUN", "show sizes, cost and state of training"),
    "plan": ("RECIPE", "estimate memory, time and disk of a run"),
    "doctor": ("", "report devices, links, disk, versions, optional packages"),
    "convert": ("FILE OUT", "turn weights of other implementations into a snapshot"),
}
"""By name: the arguments that a command needs, and what it does."""

SYNONYMS = {
    "draw": "sample",
    "eval": "evaluate",
    "generate": "sample",
    "judge": "classifier train",
    "look": "visualize",
    "recipes": "train --help",
    "reference": "statistics",
    "resume": "train",
    "settings": "train --help",
    "validate": "check",
    "version": "--version",
}
"""What other programs call a command."""

HELP = """usage: scalegan COMMAND [options]

GANs that scale: train a class-conditional generator, sample it in one pass, look inside.

commands:
{commands}

first steps:
  scalegan train digits                            minutes on a laptop, no download
  scalegan sample runs/digits --classes 3,7        a grid of threes and sevens
  scalegan train digits --train.batch-size 128 --run runs/wide
  scalegan train digits --help                     every setting with its sentence

`scalegan help COMMAND` explains a command; --debug before it shows tracebacks; -V, --version.
exit codes: 0 done, 2 a mistake that the message explains, 128+N stopped by signal N (resumable)
"""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    words = sys.argv[1:] if arguments is None else arguments
    is_debug = words[:1] == ["--debug"]
    words = words[1:] if is_debug else words
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    try:
        if not words or words[0] in ("-h", "--help"):
            lines = [f"  {f'{n} {usage}':27}  {about}" for n, (usage, about) in COMMANDS.items()]
            print(HELP.format(commands="\n".join(lines)), end="")
        elif words[0] in ("-V", "--version"):
            print(__version__)
        else:
            name, rest = find_command(words)
            command = command_of(name)

            from scalegan.runtime.memory import keep_freed_memory

            keep_freed_memory()
            sys.exit(command(rest) or 0)
    except ScaleganError as error:
        if is_debug:
            raise
        fail(str(error), error.hint)
    except BrokenPipeError:  # `scalegan info RUN | head`
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if is_debug:
            raise
        where = f"`{error.filename}`: " if error.filename else ""
        hint = "check the folder and its permissions; what was complete before is unharmed"
        fail(f"{where}{error.strerror or error}", hint)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(message: str, hint: str = "") -> NoReturn:
    """Print a mistake and exit."""
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(2)


def find_command(words: list[str]) -> tuple[str, list[str]]:
    """The command that words begin with, and the words behind it.

    Raises:
        ConfigError: if there is no such command.
    """
    for name in COMMANDS:
        first, *more = name.split()
        if words[0] != first:
            continue
        if words[1 : 1 + len(more)] == more:
            return name, words[1 + len(more) :]
        if words[1:2] in ([], ["-h"], ["--help"]):  # `scalegan classifier --help`
            return name, words[1:]
    from scalegan.config.reading import suggestion

    typed = " ".join(words[:2]) if words[0] in ("classifier", "autoencoder") else words[0]
    meant = SYNONYMS.get(words[0], "")
    hint = f"did you mean `{meant}`?" if meant else suggestion(typed, list(COMMANDS))
    raise ConfigError(f"unknown command `{typed}`", hint or "`scalegan --help` lists the commands")


def command_of(name: str) -> Callable[[list[str]], int | None]:
    """The function of a command; of all of them, its file alone is imported."""
    command: Callable[[list[str]], int | None]
    match name:
        case "prepare":
            from scalegan.commands.prepare import prepare_command as command
        case "train":
            from scalegan.commands.train import train_command as command
        case "check":
            from scalegan.commands.check import check_command as command
        case "sample":
            from scalegan.commands.sample import sample_command as command
        case "visualize":
            from scalegan.commands.visualize import visualize_command as command
        case "compare":
            from scalegan.commands.compare import compare_command as command
        case "study":
            from scalegan.commands.study import study_command as command
        case "evaluate":
            from scalegan.commands.evaluate import evaluate_command as command
        case "diff":
            from scalegan.commands.diff import diff_command as command
        case "report":
            from scalegan.commands.report import report_command as command
        case "statistics":
            from scalegan.commands.statistics import statistics_command as command
        case "classifier train":
            from scalegan.commands.classifier import classifier_command as command
        case "autoencoder train":
            from scalegan.commands.autoencoder import autoencoder_command as command
        case "info":
            from scalegan.commands.info import info_command as command
        case "plan":
            from scalegan.commands.plan import plan_command as command
        case "doctor":
            from scalegan.commands.doctor import doctor_command as command
        case _:
            from scalegan.commands.convert import convert_command as command
    return command
