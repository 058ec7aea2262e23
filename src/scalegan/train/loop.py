"""The loop: step, log, sample, evaluate, save. The only place that knows all machines."""

import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from scalegan.config.reading import to_toml
from scalegan.config.schema import Config
from scalegan.errors import CheckpointError, CompleteError, ConfigError
from scalegan.evaluation.measure import Number
from scalegan.inference.sampling import stream_images
from scalegan.inference.snapshot import Card, newest
from scalegan.inference.snapshot import save_snapshot as save_snapshot
from scalegan.interfaces import Generator, Teacher
from scalegan.planning.plan import run_bytes
from scalegan.runtime import files, image_files
from scalegan.runtime.log import Log
from scalegan.runtime.progress import Bar
from scalegan.runtime.watchdog import Watchdog, clear
from scalegan.runtime.weights import load_weights
from scalegan.runtime.world import World, is_restarted, join
from scalegan.train import checkpoint
from scalegan.train.build import Built, build, build_loader, count_parameters
from scalegan.train.clock import Clock, End
from scalegan.train.curves import plot_curves
from scalegan.train.evaluation import Evaluator, choose_best, is_measured, log_numbers
from scalegan.train.guard import BadSteps, Signals, read_attempt, roll_back
from scalegan.train.guard import newest as newest_checkpoint
from scalegan.train.health import Health, Probe, build_probe
from scalegan.train.schedule import Schedule
from scalegan.train.state import Report, TrainState
from scalegan.train.step import train_step

GRID_CLASSES, GRID_COLUMNS = 16, 10


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: Path
    step: int
    numbers: list[Number] = field(default_factory=list)
    """What was measured at its end."""
    stopped_by: int | None = None
    """Number of the signal that stopped it before its end."""


def train(
    config: Config,
    run: Path,
    device: str = "auto",
    resume: Path | None = None,
    init_from: Path | None = None,
    teacher: Teacher | None = None,
) -> Outcome:
    """Train from a config into a folder, or go on where that folder's last checkpoint is.

    Args:
        config: resolved.
        run: the folder; created if need be.
        device: "auto", "cpu", "cuda" or "cuda:1".
        resume: a checkpoint to go on from instead of the run's newest valid one.
        init_from: a snapshot (or run) to take start weights from; a new run, from step 0.
        teacher: frozen features for alignment; needed if its weight is not zero.

    Raises:
        ConfigError: if settings do not fit the data or each other, or the run is complete.
        DataError: if the data cannot be read.
        CheckpointError: if what is resumed or started from is damaged or of another run.
        TrainingError: if values are not finite again and again, or a rank is gone.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    world = join(device)
    built = build(config, world, teacher)
    state = built.state
    end, every = End(config, len(built.rows)), config.every_steps(len(built.rows))
    notes = start(built, run, resume, init_from)
    clock = Clock(run, world.is_first, state.step)
    is_at_end = end.is_reached(state.step, clock, world)
    # A run that was killed while it was evaluated at its end is evaluated now.
    is_complete = not config.evaluate.num_images or is_measured(run, state.step)
    if is_at_end and is_complete and not is_restarted():  # a process may be killed after its end
        raise CompleteError(
            f"`{run}` is complete: step {state.step:,} of {end}",
            "raise --train.duration to go on, or choose another --run",
        )
    notes += introduce(built, run, end, every)
    log = Log(run, world.is_first, state.step)
    evaluator = Evaluator(built, run, log)
    for note in notes:
        log.say(note)
    if world.is_first:
        prepare_folder(run, config, world)
    world.wait()
    watchdog = Watchdog(run, world.rank, world.size, world.pulse, config.train.timeout_seconds)
    with watchdog:
        stopped_by = advance(built, run, log, clock, end, every, evaluator)
        numbers = evaluator.evaluate(with_floor=True) if evaluator.is_on and not stopped_by else []
    if stopped_by:
        log.say(
            f"stopped at step {state.step:,} of {end} by signal {stopped_by}; "
            "the same command goes on from here"
        )
        return Outcome(run, state.step, stopped_by=stopped_by)
    evaluator.record(numbers)
    if numbers:
        log_numbers(numbers, log.say)
        choose_best(run)
        plot_curves(run)
    for line in conclude(run, built.images.class_names if config.data.conditional else []):
        log.say(line)
    return Outcome(run, state.step, numbers)


def advance(
    built: Built,
    run: Path,
    log: Log,
    clock: Clock,
    end: End,
    every: dict[str, int],
    evaluator: Evaluator,
) -> int | None:
    """Step until the end, or until a signal, whose number is returned; save what is new."""
    state, config, world = built.state, built.state.config, built.state.world
    batch_size, class_names = config.train.batch_size, built.images.class_names
    images_per_step = config.images_per_step
    loader = build_loader(built)
    schedule = Schedule(config, len(built.rows), end.steps)
    bad_steps, note = BadSteps(), ""
    health = Health(log.rewind(state.step))
    probe = build_probe(state, built.rows, built.held_out, class_names)
    bar = Bar(end.steps, "steps", state.step, images_per_step, log.console, log.is_first)
    is_last, saved, is_saving = end.is_reached(state.step, clock, world), state.step, False
    with Signals() as signals, loader, bar as progress:
        state.wants_stop = signals.is_wished
        while not is_last and not state.is_stopping:
            world.pulse.beat()
            positions = range(state.images_seen, state.images_seen + images_per_step, batch_size)
            with clock:
                schedule.apply(state)
                report = train_step(state, [loader.share(state.attempt, at) for at in positions])
            is_last = end.is_reached(state.step, clock, world)
            if state.step % every["log"] == 0 or is_last or not state.is_finite:
                note = record_step(state, report, probe, health, log)
            if bad_steps.note(state.is_finite, state.step, state.first_bad):
                before = state.step
                event = roll_back(state, run, class_names, bad_steps.seen, log.say)
                health = Health(log.rewind(state.step))
                log.record(state.step, state.images_seen, event)
                progress.advance(state.step - before)
                is_last = False
                continue
            if any(is_due(state.step, every[name]) for name in ("log", "checkpoint")) or is_last:
                clock.record(state.step)
            progress.advance(note=note + end.left(clock))
            if is_due(state.step, every["samples"]) or is_last:
                draw_progress(built, run)
            if evaluator.is_on and is_due(state.step, every["evaluate"]) and not is_last:
                evaluate_run(built, run, evaluator)
            is_saving |= is_due(state.step, every["checkpoint"])
            # Not amid bad steps: rolling back to there would forgive them.
            if is_saving and state.is_finite and not is_last:
                save_run(built, run, world)
                saved, is_saving = state.step, False
        if saved != state.step:
            clock.record(state.step)
            save_run(built, run, world)
        return signals.agree(world) if state.is_stopping and not is_last else None


def record_step(state: TrainState, report: Report, probe: Probe, health: Health, log: Log) -> str:
    """Record a step's values and alarms about them; return the losses in short."""
    values = {name: value.item() for name, value in report.items()}
    names = ("d/adversarial", "g/adversarial")
    note = "  ".join(f"{n[0].upper()} {values[n]:.3f}" for n in names if n in values)
    if state.is_finite:
        values |= probe(state)
        health.record(log, state.step, state.images_seen, values)
    else:
        log.say(f"step {state.step:,}: not finite: {state.first_bad}; it moved nothing")
        log.record(state.step, state.images_seen, {**values, "not_finite": state.first_bad})
    return note


def draw_progress(built: Built, run: Path) -> None:
    """A grid of samples and the curves, by the first rank."""
    state = built.state
    average = state.whole_average()  # of all ranks, if it is sharded
    if state.world.is_first:
        draw_samples(built, average, run / "samples" / f"step-{state.step:08d}.png")
        plot_curves(run)


def evaluate_run(built: Built, run: Path, evaluator: Evaluator) -> None:
    """Evaluate within the budget; keep what was evaluated, and say which was best."""
    numbers = evaluator.evaluate(built.state.config.evaluate.seconds)
    evaluator.record(numbers)
    if built.state.world.any(bool(numbers)):  # the first rank has them
        save_generator(built, run)
    if numbers:
        choose_best(run)


def is_due(step: int, between: int) -> bool:
    return between > 0 and step % between == 0


def prepare_folder(run: Path, config: Config, world: World) -> None:
    """Write down what is about to run, and clear away what a killed process left unfinished."""
    for name in ("checkpoints", "snapshots"):
        files.clear_drafts(run / name)
    clear(run)
    files.write_durable(run / "config.toml", to_toml(config))
    record_environment(run, world)


def start(built: Built, run: Path, resume: Path | None, init_from: Path | None) -> list[str]:
    """Fill the state from where the run begins; say from where."""
    state = built.state
    notes: list[str] = []
    checkpoints = run / "checkpoints"
    if init_from and (resume or checkpoint.list_checkpoints(checkpoints)):
        raise CheckpointError(
            f"--init-from starts a new run, but `{resume or run}` has checkpoints to go on from",
            "choose another --run, or leave --init-from out to resume",
        )
    if init_from:
        snapshot = newest(init_from)
        for name, network in state.networks.items():
            load_weights(network, snapshot / f"{name}.safetensors")
        state.average.load_state_dict(state.generator.state_dict())
        return [f"weights of both networks from `{snapshot}`; step, optimizers and average are new"]
    path = resume or newest_checkpoint(checkpoints, state.world, notes.append)
    if path:
        changed = checkpoint.restore_checkpoint(path, state, built.images.class_names)
        notes.append(f"resuming `{path}` at step {state.step:,}")
        notes += [f"  changed: {line}" for line in checkpoint.difference_table(changed)]
        if state.world.is_first:
            checkpoint.set_aside(checkpoints, state.step, notes.append)
    state.attempt = max(state.attempt, read_attempt(run))
    return notes


def introduce(built: Built, run: Path, end: End, every: dict[str, int]) -> list[str]:
    """What is about to happen, and whether it fits the disk."""
    state, config = built.state, built.state.config
    generator, discriminator = (count_parameters(n) for n in state.networks.values())
    channels, side, _ = state.autoencoder.shape
    # How many snapshots a time will leave is not known.
    needed = sum(run_bytes(generator, discriminator, end.steps or 1, every).values())
    free = files.free_bytes(run)
    if needed > free:
        raise ConfigError(
            f"the run needs about {needed / 1e9:.1f} GB but the disk of `{run}` has "
            f"{free / 1e9:.1f} GB free",
            "free some space, choose another --run, or save less often with --every.checkpoint",
        )
    images = config.images_per_step
    epochs = f" ({end.steps * images / len(built.rows):.1f} epochs)" if end.steps else ""
    return [
        *(f"notice: {note}" for note in built.images.notes),
        f"{config.model.architecture}: generator {generator / 1e6:.2f} M and discriminator "
        f"{discriminator / 1e6:.2f} M parameters on {state.world.device}",
        f"{len(built.rows):,} images as samples of {channels}x{side}x{side}, in "
        f"{len(built.images.class_names)} classes",
        f"{end}{' steps' if end.steps else ''} of {images} images a step{epochs} into `{run}`, "
        f"{'about' if end.steps else 'at least'} {needed / 1e6:,.0f} MB",
    ]


def save_run(built: Built, run: Path, world: World) -> None:
    """A checkpoint to resume from and a snapshot to use, by the first rank."""
    if world.is_first or built.state.is_sharded:
        checkpoint.save_checkpoint(run / "checkpoints", built.state, built.images.class_names)
    save_generator(built, run)
    world.wait()


def save_generator(built: Built, run: Path) -> None:
    """A snapshot of this step, written by the first rank."""
    state, config = built.state, built.state.config
    average, discriminator = state.whole_average(), state.whole_discriminator()
    if not state.world.is_first:
        return
    card = Card(
        name=config.name,
        model=config.model,
        autoencoder=config.autoencoder,
        shape=state.autoencoder.shape,
        class_names=built.images.class_names if config.data.conditional else [],
        features=config.objective.alignment.features,
        step=state.step,
        images_seen=state.images_seen,
        seed=config.seed,
        identity=state.autoencoder.identity(),
    )
    path = run / "snapshots" / f"step-{state.step:08d}"
    save_snapshot(path, card, average, discriminator)


def draw_samples(built: Built, generator: Generator, path: Path) -> None:
    """A row per class of the averaged generator's images; a column has one noise.

    Without classes, a square of different noises.
    """
    count = generator.num_classes
    rows = torch.linspace(0, count - 1, min(count, GRID_CLASSES)).long()
    seeds = list(range(GRID_COLUMNS)) * len(rows)
    labels = rows.repeat_interleave(GRID_COLUMNS)
    if not count:
        seeds, labels = list(range(GRID_COLUMNS**2)), torch.zeros(GRID_COLUMNS**2).long()
    autoencoder = built.state.autoencoder
    (images,) = stream_images(generator, autoencoder, seeds, labels, batch_size=len(seeds))
    image_files.save_png(image_files.grid(images, GRID_COLUMNS), path)


def conclude(run: Path, class_names: list[str]) -> list[str]:
    """Where everything is, and what to type next."""
    some = f" --classes {','.join(class_names[:2])}" if class_names else ""
    return [
        f"grids: {run}/samples   curves: {run}/curves.png   numbers: {run}/metrics.jsonl",
        f"to use: {run}/snapshots   to resume: {run}/checkpoints   settings: {run}/config.toml",
        f"next: scalegan sample {run}{some} --seeds 0-31 --out samples.png",
    ]


def record_environment(run: Path, world: World) -> None:
    """Append what this start ran on."""
    path = run / "environment.json"
    try:
        entries: list[dict[str, Any]] = files.read_json(path)
    except (FileNotFoundError, ValueError):
        entries = []
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(world.device)
        if world.device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "ranks": world.size,
    }
    files.write_json(path, [*entries, entry])
