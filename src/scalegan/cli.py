"""The commands: parse, call, print errors. Nothing heavy is imported before flags are parsed."""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from scalegan.errors import ConfigError, DataError, ScaleganError
from scalegan.settings import Config, FitConfig

HELP = """usage: scalegan COMMAND [options]

GANs that scale: train a class-conditional generator, sample it in one pass, look inside.

commands:
  prepare SOURCE OUT          pictures become shards: cropped, encoded, verified
  train RECIPE|config.toml    train, or go on with a run that was stopped
  check SOURCE                look at every picture and label before they cost hours
  sample RUN_OR_SNAPSHOT      draw images: a grid, a folder of PNGs or an .npz
  info RUN_OR_SNAPSHOT        what it is: sizes, cost, state of training
  autoencoder train SOURCE    a small autoencoder of your own pictures
  convert FILE OUT            the official implementation's weights become a snapshot

first steps:
  scalegan train digits                            minutes on a laptop, no download
  scalegan sample runs/digits --classes 3,7        a grid of threes and sevens
  scalegan train digits --train.batch-size 128 --run runs/wide
  scalegan train digits --help                     every setting with its sentence

`scalegan COMMAND --help` explains a command; --debug before it shows tracebacks; --version.
exit codes: 0 done, 2 a mistake that the message explains, 128+N stopped by signal N (resumable)
"""


@dataclass(frozen=True)
class Train:
    """Train from a recipe or a config file. The same command again goes on where a run stopped."""

    run: Path | None = None
    """Folder of the run; runs/NAME if not given."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    resume: Path | None = None
    """A checkpoint to go on from, instead of the run's newest."""
    init_from: Path | None = None
    """A snapshot or run whose weights a new run starts from."""
    dry_run: bool = False
    """Check everything and print the resolved config; train nothing."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Prepare:
    """Turn a source of pictures into shards to train on. The same command again goes on."""

    size: int = 0
    """Side to crop to; 0 = pictures are square and of one size already."""
    autoencoder: str = "identity"
    """identity (pixels), a name such as sd-vae-ft-mse, or a folder with an autoencoder's files."""
    store: Literal["moments", "mean"] = "moments"
    """What is kept where the encoder gives a distribution: moments = mean and standard deviation,
    drawn from at training time; mean = the mean alone."""
    workers: int = 0
    """Processes; 0 = one per usable core. What is written does not depend on it."""
    device: str = "cpu"
    """Where pictures are encoded: cpu (by the workers) or cuda."""
    shard_rows: int = 10_000
    """Rows of a shard."""
    allow_upscaling: bool = False
    """Enlarge pictures smaller than --size instead of leaving them out."""
    mirror: bool = False
    """Make every picture's mirror image a row of its own."""
    keep_images: bool = False
    """Keep the pictures too, for a teacher or a judge."""
    strict: bool = False
    """End at the first picture that cannot be used, instead of listing it."""


@dataclass(frozen=True)
class Check:
    """Look at every picture and label of a source. SOURCE is a path or NAME:PATH."""

    size: int = 0
    """Side that pictures are to be cropped to: smaller ones are reported; 0 = any size."""
    allow_upscaling: bool = False
    """Accept pictures smaller than --size."""
    strict: bool = False
    """Exit with 2 if a single picture or label cannot be used."""
    workers: int = -1
    """Processes that decode; 0 = this one alone, -1 = one per CPU for sources of some size."""
    out: Path = Path()
    """Where shards would be written: its free space is compared."""


@dataclass(frozen=True)
class Sample:
    """Draw images of a trained generator. Image i depends on its seed alone."""

    classes: str = ""
    """Class names or indices, separated by commas; the image of seed s has class s modulo their
    number. Not given: all classes."""
    seeds: str = "0-63"
    """Seeds: 0-63, or 1,5,9."""
    truncation: float = 1.0
    """Psi: 1 = none, towards 0 = more typical and less varied."""
    guidance: float = 1.0
    """1 = none, above = further from what classes have in common."""
    out: Path = Path("samples.png")
    """NAME.png: a grid. NAME.npz: arr_0 uint8 NHWC and arr_1 labels. Else a folder of PNGs."""
    columns: int = 0
    """Columns of the grid; 0 = as many as classes, at most 16."""
    batch_size: int = 64
    """Images made at a time."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
    autoencoder: str = ""
    """Name or folder of the autoencoder, where the snapshot's own is no longer where it was."""


@dataclass(frozen=True)
class Info:
    """What a run or snapshot is: sizes, cost, state of training."""


@dataclass(frozen=True)
class FitAutoencoder(FitConfig):
    """Fit a small KL autoencoder to a source's pictures: a latent space of one's own."""

    out: Path = Path("autoencoder")
    """The folder to write, which `autoencoder.path` then names; it must not exist."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""


@dataclass(frozen=True)
class Convert:
    """Turn a checkpoint of the official GAT code into a snapshot."""

    class_names: Path | None = None
    """Text file with one class name a line; numbers if not given."""
    allow_unsafe_pickle: bool = False
    """Open a file that needs full unpickling, in a child process. Only for files you trust."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    is_debug = arguments[:1] == ["--debug"]
    command, *rest = arguments[is_debug:] or ["--help"]
    if command in ("-h", "--help"):
        print(HELP, end="")
        return
    if command == "--version":
        from scalegan import __version__

        print(__version__)
        return
    try:
        if command not in COMMANDS:
            from scalegan.config import suggestion

            hint = suggestion(command, list(COMMANDS)) or "`scalegan --help` lists the commands"
            raise ConfigError(f"unknown command `{command}`", hint)
        sys.exit(COMMANDS[command](rest))
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
        fail(
            f"{where}{error.strerror or error}", "complete files are kept; see to it and try again"
        )
    except KeyboardInterrupt:
        sys.exit(130)


def fail(message: str, hint: str = "") -> None:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(2)


def train_command(arguments: list[str]) -> int:
    from scalegan import config as configs

    recipe, arguments = positional(arguments, "RECIPE")
    given = configs.read(recipe) if recipe else Config()
    about = f"Recipes: {', '.join(configs.recipes())}."
    parsed = parse(Train, "train", "RECIPE", arguments, about, Train(config=given))
    if recipe is None:
        raise ConfigError("`scalegan train` needs a recipe or a config.toml", about)
    config = parsed.config
    if config.model.size and config.model.size != given.model.size:
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
    config = configs.resolve(configs.parse(asdict(config)))
    if parsed.dry_run:
        print(configs.write(config), end="")
        return 0

    from scalegan.runtime.world import leave
    from scalegan.train.loop import train

    run = parsed.run or Path("runs") / config.name
    outcome = train(config, run, parsed.device, parsed.resume, parsed.init_from)
    leave()
    return 128 + outcome.stopped_by if outcome.stopped_by else 0


def prepare_command(arguments: list[str]) -> int:
    source, arguments = positional(arguments, "SOURCE")
    out, arguments = positional(arguments, "OUT") if source else (None, arguments)
    parsed = parse(Prepare, "prepare", "SOURCE OUT", arguments)
    if source is None or out is None:
        raise ConfigError("`scalegan prepare` needs a SOURCE and the folder to write, OUT")
    if parsed.size < 0 or parsed.workers < 0 or parsed.shard_rows < 1:
        raise ConfigError("--size and --workers count from 0, --shard-rows from 1")

    from scalegan.autoencoders.folders import named
    from scalegan.prepare import prepare

    autoencoder = named(parsed.autoencoder, parsed.store)
    options = {n: v for n, v in vars(parsed).items() if n not in ("autoencoder", "store")}
    prepare(source, Path(out), autoencoder=autoencoder, **options)
    return 0


def check_command(arguments: list[str]) -> int:
    text, arguments = positional(arguments, "SOURCE")
    parsed = parse(Check, "check", "SOURCE", arguments)
    if text is None:
        raise ConfigError("`scalegan check` needs a source: a path or NAME:PATH")
    if parsed.size < 0:
        raise ConfigError(f"`--size` is {parsed.size}; expected the side of a picture, or 0")

    from scalegan.data.check import check, report, workers_for
    from scalegan.data.sources import open_source
    from scalegan.registry import SOURCES

    source = open_source(text, SOURCES)
    workers = workers_for(source) if parsed.workers < 0 else parsed.workers
    findings = check(source, parsed.size, parsed.allow_upscaling, workers)
    print("\n".join(report(findings, parsed.out)))
    if not findings.num_good:
        raise DataError(f"`{text}` holds no picture that can be used")
    if parsed.strict and findings.bad:
        raise DataError(f"{len(findings.bad):,} pictures or labels cannot be used (--strict)")
    return 0


def sample_command(arguments: list[str]) -> int:
    path, arguments = positional(arguments, "RUN_OR_SNAPSHOT")
    parsed = parse(Sample, "sample", "RUN_OR_SNAPSHOT", arguments)
    if path is None:
        raise ConfigError("`scalegan sample` needs a run or a snapshot folder")
    seeds = parse_seeds(parsed.seeds)
    classes = [label.strip() for label in parsed.classes.split(",") if label.strip()] or None

    from scalegan.runtime.pictures import write
    from scalegan.sample import labels_for
    from scalegan.snapshot import load

    gan = load(path, parsed.device, parsed.autoencoder)
    labels = labels_for(seeds, gan.indices(classes)).tolist()
    batches = gan.stream(seeds, classes, parsed.truncation, parsed.guidance, parsed.batch_size)
    columns = parsed.columns or min(16, len(classes or gan.card.class_names))
    write(with_progress(batches, len(seeds)), labels, parsed.out, columns)
    print(f"{len(seeds):,} images of step {gan.card.step:,} in `{parsed.out}`")
    return 0


def with_progress(batches: Iterable[Any], total: int) -> Iterator[Any]:
    """Pass batches on under a bar with throughput and time left, shown only in a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch))


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
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(sentence(errors.getvalue()), f"`scalegan {name} --help`") from None
    if unknown:
        from scalegan.config import suggestion

        hint = suggestion(unknown[0].split("=")[0], flags(kind))
        hint = hint or f"`scalegan {name} --help` lists all options"
        raise ConfigError(f"unknown option `{unknown[0]}`", hint)
    return parsed


def flags(kind: type) -> list[str]:
    """The flags that a command's fields make."""
    from scalegan.config import setting_names

    names = [f.name for f in fields(kind) if f.name != "config"]
    names += setting_names() if kind is Train else []
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


def info_command(arguments: list[str]) -> int:
    path, arguments = positional(arguments, "RUN_OR_SNAPSHOT")
    parse(Info, "info", "RUN_OR_SNAPSHOT", arguments)
    if path is None:
        raise ConfigError("`scalegan info` needs a run or a snapshot folder")

    from scalegan.info import describe

    print("\n".join(describe(Path(path))))
    return 0


def autoencoder_command(arguments: list[str]) -> int:
    action, arguments = positional(arguments, "`train`")
    if action not in ("train", None):
        raise ConfigError(f"unknown command `autoencoder {action}`", "there is `autoencoder train`")
    source, arguments = positional(arguments, "SOURCE")
    parsed = parse(FitAutoencoder, "autoencoder train", "SOURCE", arguments)
    if action is None or source is None:
        raise ConfigError(
            "`scalegan autoencoder train` needs a SOURCE", "for example digits or npz:PATH"
        )
    from scalegan.config import parse_fit

    values = {
        name: value for name, value in asdict(parsed).items() if name not in ("out", "device")
    }
    config = parse_fit(values)

    from scalegan.train.autoencoder import train_autoencoder

    print("\n".join(train_autoencoder(source, parsed.out, config, parsed.device)))
    return 0


def convert_command(arguments: list[str]) -> int:
    source, arguments = positional(arguments, "FILE")
    out, arguments = positional(arguments, "OUT") if source else (None, arguments)
    parsed = parse(Convert, "convert", "FILE OUT", arguments)
    if source is None or out is None:
        raise ConfigError("`scalegan convert` needs a FILE and the folder to write, OUT")

    from scalegan.convert import convert

    lines = convert(Path(source), Path(out), parsed.class_names, parsed.allow_unsafe_pickle)
    print("\n".join(lines))
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "prepare": prepare_command,
    "train": train_command,
    "check": check_command,
    "sample": sample_command,
    "info": info_command,
    "autoencoder": autoencoder_command,
    "convert": convert_command,
}
