"""The commands: parse, call, print errors. Nothing heavy is imported before flags are parsed."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from scalegan.commands.flags import parse, parse_seeds, positional, with_config
from scalegan.commands.options import (
    Check,
    Compare,
    Convert,
    Diff,
    Doctor,
    Evaluate,
    FitAutoencoder,
    Info,
    Look,
    Plan,
    Prepare,
    Report,
    Sample,
    Statistics,
    Train,
    TrainClassifier,
)
from scalegan.errors import ConfigError, DataError, ScaleganError

HELP = """usage: scalegan COMMAND [options]

GANs that scale: train a class-conditional generator, sample it in one pass, look inside.

commands:
  prepare SOURCE OUT          images become shards: cropped, encoded, verified
  train RECIPE|config.toml    train, or go on with a run that was stopped
  check SOURCE                look at every image and label before they cost hours
  sample RUN_OR_SNAPSHOT      draw images: a grid, a folder of PNGs or an .npz
  look RUN_OR_SNAPSHOT        what it can show of itself: walks, levels, styles, attention
  compare RECIPE RECIPE ...   train recipes at equal time or compute, and write a page
  evaluate X --against Y      numbers with their protocol: distances, precision, recall, ...
  report RUN                  one page about a run: images, curves, numbers, cost
  diff A.json B.json          two results of evaluate side by side
  statistics SOURCE OUT.npz   statistics of images, to evaluate against again and again
  classifier train SOURCE OUT      a small classifier of your own images, to evaluate with
  info RUN_OR_SNAPSHOT        what it is: sizes, cost, state of training
  plan RECIPE|config.toml     what a run will need: memory, micro-batches, time, disk
  doctor                      what this machine has: devices, links, disk, versions, extras
  autoencoder train SOURCE    a small autoencoder of your own images; goes on where it stopped
  convert FILE OUT            weights that other code trained become a snapshot

first steps:
  scalegan train digits                            minutes on a laptop, no download
  scalegan sample runs/digits --classes 3,7        a grid of threes and sevens
  scalegan train digits --train.batch-size 128 --run runs/wide
  scalegan train digits --help                     every setting with its sentence

`scalegan COMMAND --help` explains a command; --debug before it shows tracebacks; --version.
exit codes: 0 done, 2 a mistake that the message explains, 128+N stopped by signal N (resumable)
"""


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
            from scalegan.config.reading import suggestion

            hint = suggestion(command, list(COMMANDS)) or "`scalegan --help` lists the commands"
            raise ConfigError(f"unknown command `{command}`", hint)
        from scalegan.runtime.memory import keep_freed_memory

        keep_freed_memory()
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
    parsed, config = with_config(Train, "train", arguments)
    if parsed.dry_run:
        from scalegan.config.reading import write
        from scalegan.train.build import check_names

        check_names(config)
        print(write(config), end="")
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

    from scalegan.autoencoders.tables import named
    from scalegan.data.prepare import prepare

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
        raise ConfigError(f"`--size` is {parsed.size}; expected the side of a image, or 0")

    from scalegan.data.check import check, report, workers_for
    from scalegan.data.sources import open_source
    from scalegan.data.tables import SOURCES

    source = open_source(text, SOURCES)
    workers = workers_for(source) if parsed.workers < 0 else parsed.workers
    findings = check(source, parsed.size, parsed.allow_upscaling, workers)
    print("\n".join(report(findings, parsed.out)))
    if not findings.num_good:
        raise DataError(f"`{text}` holds no image that can be used")
    if parsed.strict and findings.bad:
        raise DataError(f"{len(findings.bad):,} images or labels cannot be used (--strict)")
    return 0


def sample_command(arguments: list[str]) -> int:
    path, arguments = positional(arguments, "RUN_OR_SNAPSHOT")
    parsed = parse(Sample, "sample", "RUN_OR_SNAPSHOT", arguments)
    if path is None:
        raise ConfigError("`scalegan sample` needs a run or a snapshot folder")
    seeds = parse_seeds(parsed.seeds)
    classes = [label.strip() for label in parsed.classes.split(",") if label.strip()] or None

    from scalegan.inference.gan import load
    from scalegan.runtime.image_files import write_images

    gan = load(path, parsed.device, parsed.autoencoder)
    labels = gan.labels(seeds, classes)
    batches = gan.stream(seeds, labels, parsed.truncation, parsed.guidance, parsed.batch_size)
    columns = parsed.columns or min(16, len(classes or gan.card.class_names) or 8)
    write_images(with_progress(batches, len(seeds)), labels.tolist(), parsed.out, columns)
    print(f"{len(seeds):,} images of step {gan.card.step:,} in `{parsed.out}`")
    return 0


def with_progress(batches: Iterable[Any], total: int) -> Iterator[Any]:
    """Pass batches of images on under a bar."""
    from scalegan.runtime.progress import Bar

    with Bar(total, "images") as bar:
        for batch in batches:
            yield batch
            bar.advance(len(batch))


def look_command(arguments: list[str]) -> int:
    path, arguments = positional(arguments, "RUN_OR_SNAPSHOT")
    parsed = parse(Look, "look", "RUN_OR_SNAPSHOT", arguments)
    if path is None or parsed.count < 2:
        raise ConfigError("`scalegan look` needs a run or a snapshot folder, and --count from 2")
    classes = [label.strip() for label in parsed.classes.split(",") if label.strip()] or None

    from scalegan.inference.gan import load
    from scalegan.inference.views import views
    from scalegan.runtime.image_files import save_png

    gan = load(path, parsed.device, parsed.autoencoder)
    for view in views(gan, parsed.count, classes, parsed.seed):
        save_png(view.image, parsed.out / f"{view.name}.png")
        print(f"{parsed.out / view.name}.png  {view.about}")
    return 0


def compare_command(arguments: list[str]) -> int:
    recipes: list[str] = []
    while arguments and not arguments[0].startswith("-"):
        recipes, arguments = [*recipes, arguments[0]], arguments[1:]
    if not recipes:
        with_config(Compare, "compare", arguments)  # --help, or says what is missing
    pairs = [with_config(Compare, "compare", [recipe, *arguments]) for recipe in recipes]
    parsed = pairs[0][0]
    if len(recipes) < 2 or parsed.points < 1:
        raise ConfigError("`scalegan compare` needs two recipes or more, and --points from 1")

    from scalegan.config.budget import parse_budget
    from scalegan.reports.compare import compare

    given = [config for _, config in pairs]
    budget, seeds = parse_budget(parsed.budget), parse_seeds(parsed.seeds)
    stopped_by = compare(given, budget, seeds, parsed.out, parsed.points, parsed.device)
    return 128 + stopped_by if stopped_by else 0


def info_command(arguments: list[str]) -> int:
    path, arguments = positional(arguments, "RUN_OR_SNAPSHOT")
    parse(Info, "info", "RUN_OR_SNAPSHOT", arguments)
    if path is None:
        raise ConfigError("`scalegan info` needs a run or a snapshot folder")

    from scalegan.reports.summary import describe

    print("\n".join(describe(Path(path))))
    return 0


def plan_command(arguments: list[str]) -> int:
    parsed, config = with_config(Plan, "plan", arguments)

    from scalegan.planning.plan import plan_lines, read_task
    from scalegan.train.throughput import images_per_second

    task = read_task(config, parsed.rows, parsed.classes, parsed.side)
    if parsed.scale:
        from scalegan.planning.scale import table

        print("\n".join(table(config, task, parsed.device)))
        return 0
    measure = images_per_second if parsed.measure else None
    print("\n".join(plan_lines(config, task, parsed.device, parsed.ranks, measure)))
    return 0


def doctor_command(arguments: list[str]) -> int:
    parsed = parse(Doctor, "doctor", "", arguments)

    from scalegan.runtime.machine import examine, report
    from scalegan.runtime.world import join, leave

    world = join(parsed.device)
    findings = examine(world, parsed.folder)
    if world.is_first:
        print("\n".join(report(findings)))
    leave()
    return 0 if all(finding.is_fine for finding in findings) else 2


def autoencoder_command(arguments: list[str]) -> int:
    action, arguments = positional(arguments, "`train`")
    if action not in ("train", None):
        raise ConfigError(f"unknown command `autoencoder {action}`", "there is `autoencoder train`")
    source, arguments = positional(arguments, "SOURCE")
    parsed = parse(FitAutoencoder, "autoencoder train", "SOURCE", arguments)
    if action is None or source is None:
        raise ConfigError(
            "`scalegan autoencoder train` needs a SOURCE", "for example digits, a folder or shards"
        )
    from scalegan.config.auxiliary import FitConfig
    from scalegan.config.reading import parse_part

    values = {
        name: value for name, value in asdict(parsed).items() if name not in ("out", "device")
    }
    config = parse_part(FitConfig, values)

    from scalegan.train.autoencoder import train_autoencoder

    outcome = train_autoencoder(source, parsed.out, config, parsed.device)
    print("\n".join(outcome.lines))
    return 128 + outcome.stopped_by if outcome.stopped_by else 0


def evaluate_command(arguments: list[str]) -> int:
    what, arguments = positional(arguments, "X")
    parsed = parse(Evaluate, "evaluate", "X", arguments)
    if what is None:
        raise ConfigError("`scalegan evaluate` needs a run, a snapshot or a source of images")

    from scalegan.evaluation.evaluate import Request, evaluate
    from scalegan.evaluation.results import table, write_result
    from scalegan.runtime.world import join, leave

    world = join(parsed.device)
    request = Request(
        what, parsed.against, parsed.metrics, parsed.features, image_options(parsed), parsed.floor
    )
    numbers = evaluate(request, world, parsed.keep)
    if world.is_first:
        print("\n".join(table(numbers)))
        if parsed.out:
            write_result(parsed.out, numbers)
    leave()
    return 0


def image_options(parsed: Any) -> Any:
    """How images are drawn, of the flags that are there.

    Raises:
        ConfigError: if a number is out of range.
    """
    from scalegan.evaluation.images import ImageOptions

    values = {
        f.name: getattr(parsed, f.name) for f in fields(ImageOptions) if hasattr(parsed, f.name)
    }
    for name in ("num", "size", "seed"):
        if values[name] < 0:
            raise ConfigError(f"`--{name}` is {values[name]}; expected 0 or more")
    if values["batch_size"] < 1:
        raise ConfigError(f"`--batch-size` is {values['batch_size']}; expected 1 or more")
    return ImageOptions(**values)


def report_command(arguments: list[str]) -> int:
    path, arguments = positional(arguments, "RUN")
    parsed = parse(Report, "report", "RUN", arguments)
    if path is None:
        raise ConfigError("`scalegan report` needs a run or a snapshot folder")

    from scalegan.reports.run import report
    from scalegan.runtime.world import join, leave

    options = {name: value for name, value in vars(parsed).items() if name != "device"}
    print("\n".join(report(Path(path), world=join(parsed.device), **options)))
    leave()
    return 0


def diff_command(arguments: list[str]) -> int:
    first, arguments = positional(arguments, "A.json")
    second, arguments = positional(arguments, "B.json") if first else (None, arguments)
    parse(Diff, "diff", "A.json B.json", arguments)
    if first is None or second is None:
        raise ConfigError("`scalegan diff` needs two results of `scalegan evaluate --out`")

    from scalegan.evaluation.results import diff

    print("\n".join(diff(Path(first), Path(second))))
    return 0


def statistics_command(arguments: list[str]) -> int:
    source, arguments = positional(arguments, "SOURCE")
    out, arguments = positional(arguments, "OUT") if source else (None, arguments)
    parsed = parse(Statistics, "statistics", "SOURCE OUT.npz", arguments)
    if source is None or out is None or not out.endswith(".npz"):
        raise ConfigError("`scalegan statistics` needs a SOURCE and the file to write, OUT.npz")

    from scalegan.evaluation.evaluate import make_statistics
    from scalegan.runtime.world import join, leave

    world = join(parsed.device)
    lines = make_statistics(
        source, Path(out), parsed.features, image_options(parsed), parsed.bank, world
    )
    if world.is_first:
        print("\n".join(lines))
    leave()
    return 0


def classifier_command(arguments: list[str]) -> int:
    action, arguments = positional(arguments, "`train`")
    if action not in ("train", None):
        raise ConfigError(f"unknown command `classifier {action}`", "there is `classifier train`")
    source, arguments = positional(arguments, "SOURCE")
    out, arguments = positional(arguments, "OUT") if source else (None, arguments)
    parsed = parse(TrainClassifier, "classifier train", "SOURCE OUT", arguments)
    if action is None or source is None or out is None:
        raise ConfigError("`scalegan classifier train` needs a SOURCE and the folder to write, OUT")
    from scalegan.config.auxiliary import ClassifierConfig
    from scalegan.config.reading import parse_part

    values = asdict(parsed)
    device = values.pop("device")
    config = parse_part(ClassifierConfig, values)

    from scalegan.evaluation.classifier import train_classifier

    print("\n".join(train_classifier(source, Path(out), config, device)))
    return 0


def convert_command(arguments: list[str]) -> int:
    source, arguments = positional(arguments, "FILE")
    out, arguments = positional(arguments, "OUT") if source else (None, arguments)
    parsed = parse(Convert, "convert", "FILE OUT", arguments)
    if source is None or out is None:
        raise ConfigError("`scalegan convert` needs a FILE and the folder to write, OUT")

    from scalegan.convert.convert import convert

    lines = convert(
        Path(source),
        Path(out),
        parsed.class_names,
        parsed.allow_unsafe_pickle,
        parsed.system,
        parsed.model,
    )
    print("\n".join(lines))
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "prepare": prepare_command,
    "train": train_command,
    "check": check_command,
    "sample": sample_command,
    "look": look_command,
    "compare": compare_command,
    "evaluate": evaluate_command,
    "diff": diff_command,
    "statistics": statistics_command,
    "report": report_command,
    "classifier": classifier_command,
    "info": info_command,
    "plan": plan_command,
    "doctor": doctor_command,
    "autoencoder": autoencoder_command,
    "convert": convert_command,
}
