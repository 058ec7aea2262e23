"""The loop: step, log, sample, evaluate, save. The only place that knows all machines."""

import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch

from scalegan import config as configs
from scalegan.errors import CheckpointError, ConfigError
from scalegan.features.judge import accuracy, train_judge
from scalegan.interfaces import GeneratorModule, Teacher
from scalegan.metrics.evaluate import Verdict, distances
from scalegan.runtime import files, pictures
from scalegan.runtime.log import Log, losses, plot_curves
from scalegan.runtime.world import World, join
from scalegan.sample import paint, sample, styles_for
from scalegan.settings import Config
from scalegan.snapshot import Card, load_weights, newest
from scalegan.snapshot import save as save_snapshot
from scalegan.train import checkpoint
from scalegan.train.build import Built, build, build_loader, count_parameters
from scalegan.train.guard import BadSteps, Signals
from scalegan.train.step import train_step

GRID_CLASSES, GRID_COLUMNS = 16, 10


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: Path
    step: int
    verdict: Verdict | None = None
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
        ConfigError, DataError, CheckpointError, TrainingError: see their sentences.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    world = join(device)
    built = build(config, world, teacher)
    state = built.state
    total, every = schedule(config, len(built.rows))
    notes = start(built, run, resume, init_from)
    if state.step >= total:
        raise ConfigError(
            f"`{run}` is complete: step {state.step:,} of {total:,}",
            "raise --train.duration to go on, or choose another --run",
        )
    notes += introduce(built, run, total, every["checkpoint"])
    log = Log(run, world.is_first, state.step)
    for note in notes:
        log.say(note)
    if world.is_first:
        prepare_folder(run, config, world)
    stopped_by = advance(built, run, log, total, every)
    save(built, run, world)
    if stopped_by:
        log.say(
            f"stopped at step {state.step:,} of {total:,} by signal {stopped_by}; "
            "the same command goes on from here"
        )
        return Outcome(run, state.step, stopped_by=stopped_by)
    verdict = None
    if config.evaluate.num_images:
        average = state.whole("average")
        verdict = judge(built, average, log.say) if world.is_first else None
    if verdict:
        scores = {f"judge/{name}": value for name, value in vars(verdict).items()}
        log.record(state.step, state.images_seen, scores)
    for line in conclude(run, built.pictures.class_names, verdict):
        log.say(line)
    return Outcome(run, state.step, verdict)


def advance(built: Built, run: Path, log: Log, total: int, every: dict[str, int]) -> int | None:
    """Step until the end, or until a signal, whose number is returned."""
    state, config, world = built.state, built.state.config, built.state.world
    batch_size = config.train.batch_size
    loader = build_loader(built)
    bad_steps, note = BadSteps(), ""
    bar = log.progress(total, state.step, batch_size)
    with Signals() as signals, loader, bar as progress:
        while state.step < total:
            if world.any(signals.received is not None):
                return signals.received or SIGTERM
            report = train_step(state, [loader.share(state.attempt, state.images_seen)])
            is_last = state.step == total
            bad_steps.note(state.is_finite, state.step, report)
            if state.step % every["log"] == 0 or is_last or not state.is_finite:
                values = {name: value.item() for name, value in report.items()}
                log.record(state.step, state.images_seen, values)
                note = losses(values)
            progress.advance(note=note)
            if state.step % every["samples"] == 0 or is_last:
                average = state.whole("average")  # of all ranks, if it is sharded
                if world.is_first:
                    draw_samples(built, average, run / "samples" / f"step-{state.step:08d}.png")
                    plot_curves(run)
            if state.step % every["checkpoint"] == 0 and not is_last:
                save(built, run, world)
    return None


def schedule(config: Config, num_rows: int) -> tuple[int, dict[str, int]]:
    """Steps of the whole run, and between things that are written."""
    batch_size = config.train.batch_size
    every = {
        name: configs.count_steps(text, f"every.{name}", batch_size, num_rows)
        for name, text in vars(config.every).items()
    }
    total = configs.count_steps(config.train.duration, "train.duration", batch_size, num_rows)
    return total, every


def prepare_folder(run: Path, config: Config, world: World) -> None:
    """Write down what is about to run, and clear away what a killed process left unfinished."""
    for name in ("checkpoints", "snapshots"):
        files.clear_drafts(run / name)
    (run / "config.toml").write_text(configs.write(config), encoding="utf-8")
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
    path = resume or checkpoint.find_newest(checkpoints, notes.append)
    if path:
        changed = checkpoint.restore(path, state, built.pictures.class_names)
        notes.append(f"resuming `{path}` at step {state.step:,}")
        notes += [f"  changed: {name} {then} -> {now}" for name, (then, now) in changed.items()]
    return notes


def introduce(built: Built, run: Path, total: int, between: int) -> list[str]:
    """What is about to happen, and whether it fits the disk.

    Args:
        between: steps from one checkpoint to the next.
    """
    state, config = built.state, built.state.config
    generator, discriminator = (count_parameters(n) for n in state.networks.values())
    channels, side, _ = state.autoencoder.shape
    # Both networks, the average, two Adam moments of both; three checkpoints exist for a moment.
    checkpoint_bytes = 4 * (4 * generator + 3 * discriminator)
    snapshots = 1 + total // between
    needed = 3 * checkpoint_bytes + snapshots * 4 * (generator + discriminator)
    folder = next(parent for parent in [run, *run.absolute().parents] if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"the run needs about {needed / 1e9:.1f} GB on disk but `{folder}` has "
            f"{free / 1e9:.1f} GB free",
            "free some space, choose another --run, or save less often with --every.checkpoint",
        )
    epochs = total * config.train.batch_size / len(built.rows)
    return [
        *(f"notice: {note}" for note in built.pictures.notes),
        f"{config.model.architecture}: generator {generator / 1e6:.2f} M and discriminator "
        f"{discriminator / 1e6:.2f} M parameters on {state.world.device}",
        f"{len(built.rows):,} pictures as samples of {channels}x{side}x{side}, in "
        f"{len(built.pictures.class_names)} classes",
        f"{total:,} steps of {config.train.batch_size} images ({epochs:.1f} epochs) into `{run}`, "
        f"about {needed / 1e6:,.0f} MB",
    ]


def save(built: Built, run: Path, world: World) -> None:
    """A checkpoint to resume from and a snapshot to use, by the first rank."""
    state, config = built.state, built.state.config
    average, discriminator = state.whole("average"), state.whole("discriminator")
    if world.is_first or state.is_sharded:
        checkpoint.save(run / "checkpoints", state, built.pictures.class_names)
    if world.is_first:
        alignment = config.objective.alignment
        card = Card(
            name=config.name,
            model=config.model,
            autoencoder=config.autoencoder,
            shape=state.autoencoder.shape,
            class_names=built.pictures.class_names,
            features=alignment.features if alignment.weight > 0 else 0,
            step=state.step,
            images_seen=state.images_seen,
            seed=config.seed,
            identity=state.autoencoder.identity(),
        )
        path = run / "snapshots" / f"step-{state.step:08d}"
        save_snapshot(path, card, average, discriminator)
    world.wait()


def draw_samples(built: Built, generator: GeneratorModule, path: Path) -> None:
    """A row per class of the averaged generator's images; a column has one noise."""
    count = len(built.pictures.class_names)
    rows = torch.linspace(0, count - 1, min(count, GRID_CLASSES)).long()
    seeds = list(range(GRID_COLUMNS)) * len(rows)
    labels = rows.repeat_interleave(GRID_COLUMNS)
    images = paint(generator, built.state.autoencoder, styles_for(generator, seeds, labels))
    pictures.save_png(pictures.grid(images, GRID_COLUMNS), path)


def judge(built: Built, generator: GeneratorModule, say: Callable[[str], None]) -> Verdict:
    """Score samples by a classifier that is trained on the real images now."""
    config, state = built.state.config, built.state
    say("training a judge on the real images ...")
    real, labels, names = built.pictures[:3]
    trained = train_judge(real, labels, len(names), config.seed)
    seeds = range(config.evaluate.num_images)
    wanted = torch.tensor([seed % len(names) for seed in seeds])
    fake = torch.cat(list(sample(generator, state.autoencoder, seeds, wanted)))
    distance, floor = distances(real, fake, trained.judge.features, config.seed)
    hits = accuracy(trained.judge, fake, wanted)
    return Verdict(len(fake), hits, trained.held_out_accuracy, distance, floor)


def conclude(run: Path, class_names: list[str], verdict: Verdict | None) -> list[str]:
    """How good the result is, where everything is, and what to type next."""
    lines = []
    if verdict:
        lines += [
            f"{verdict.accuracy:.1%} of {verdict.num_images:,} samples show their class to a judge "
            f"that knows {verdict.real_accuracy:.1%} of unseen real images",
            f"Frechet distance in its features: {verdict.distance:.3f}; two halves of the real "
            f"images: {verdict.real_distance:.3f} (ratio "
            f"{verdict.distance / verdict.real_distance:.1f})",
        ]
    some = ",".join(class_names[:2])
    return [
        *lines,
        f"grids: {run}/samples   curves: {run}/curves.png   numbers: {run}/metrics.jsonl",
        f"to use: {run}/snapshots   to resume: {run}/checkpoints   settings: {run}/config.toml",
        f"next: scalegan sample {run} --classes {some} --seeds 0-31 --out samples.png",
    ]


def record_environment(run: Path, world: World) -> None:
    """Append what this start ran on."""
    path = run / "environment.json"
    entries: list[dict[str, Any]] = files.read_json(path) if path.is_file() else []
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
