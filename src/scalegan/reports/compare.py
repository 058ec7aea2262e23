"""`scalegan compare`: recipes on the same data by the same evaluation, at equal time or compute.

Each run is an ordinary one in OUT/runs. What is decided before the start is kept in
OUT/comparison.json, so that the same command goes on from wherever it was stopped.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from scalegan.config import reading as configs
from scalegan.config.auxiliary import ClassifierConfig
from scalegan.config.budget import Budget
from scalegan.config.durations import count_steps
from scalegan.config.schema import Config, EveryConfig
from scalegan.errors import CompleteError, ConfigError, ScaleganError
from scalegan.evaluation.classifier import train_classifier
from scalegan.inference.snapshot import load
from scalegan.planning.cost import Task, count
from scalegan.planning.plan import read_task
from scalegan.reports.comparison import write_page
from scalegan.reports.results import OUTCOME, PLAN, RUNS, run_name
from scalegan.runtime.files import atomic_file, locked, read_json, write_json
from scalegan.runtime.world import choose_device
from scalegan.train.loop import train
from scalegan.train.throughput import images_per_second

FORMAT = 1
NUM_IMAGES = 1000
"""Evaluated where no recipe says how many."""
TRIAL_SECONDS = 2.0


def compare(
    given: Sequence[Config],
    budget: Budget,
    seeds: Sequence[int],
    out: Path,
    points: int = 6,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> int | None:
    """Train all recipes with all seeds, or go on with it; write the page after every run.

    Args:
        given: resolved, with what is overridden; their seeds are not looked at.
        points: evaluations along a run, the last one at its end.

    Returns:
        The number of the signal that stopped it, if one did.

    Raises:
        ConfigError, DataError: see their sentences.
    """
    refuse_unlike(given)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "comparing in"):
        shared = shared_evaluation(given, out)
        plan = make_plan(given, budget, seeds, out, points, device, say)
        if shared.features.startswith("classifier:") and not given[0].evaluate.features:
            ensure_classifier(given[0], out, device, say)
        runs = [(entry, seed) for seed in plan["seeds"] for entry in plan["entries"]]
        for number, (entry, seed) in enumerate(runs, start=1):
            folder = out / RUNS / run_name(entry["name"], seed)
            if is_over(out, entry, seed):
                continue
            left = sum(e["expected_seconds"] for e, s in runs if not is_over(out, e, s))
            say(f"\nrun {number} of {len(runs)}: {folder.name}; about {clock(left)} left in all")
            stopped_by = run_one(entry, seed, folder, device, say)
            write_page(out)
            if stopped_by:
                return stopped_by
        say("\n" + "\n".join(write_page(out)))
    return None


def is_over(out: Path, entry: dict[str, Any], seed: int) -> bool:
    """Whether a run has ended, well or not."""
    return (out / RUNS / run_name(entry["name"], seed) / OUTCOME).is_file()


def refuse_unlike(given: Sequence[Config]) -> None:
    """Raise ConfigError where recipes could not be compared."""
    names = [config.name for config in given]
    if len(set(names)) < len(names):
        raise ConfigError(f"two recipes have the same name: {', '.join(names)}")
    settings: dict[str, Callable[[Config], Any]] = {
        "data.source": lambda config: config.data.source,
        "data.shards": lambda config: config.data.shards,
        "data.size": lambda config: config.data.size,
        "train.threads": lambda config: config.train.threads,
        "evaluate.metrics": lambda config: config.evaluate.metrics,
        "evaluate.features": lambda config: config.evaluate.features,
    }
    for name, read in settings.items():
        found = {config.name: read(config) for config in given}
        if len(set(found.values())) > 1:
            shown = ", ".join(f"{value!r} of {recipe}" for recipe, value in found.items())
            flag = name.replace("_", "-")
            raise ConfigError(f"`{name}` differs: {shown}", f"say which for all: --{flag} ...")


def shared_evaluation(given: Sequence[Config], out: Path) -> Any:
    """The one evaluation of all runs."""
    first = given[0].evaluate
    num = max(config.evaluate.num_images for config in given) or NUM_IMAGES
    features = first.features or f"classifier:{(out / 'classifier').absolute()}"
    return replace(first, num_images=num, features=features)


def ensure_classifier(config: Config, out: Path, device: str, say: Callable[[str], None]) -> None:
    """One classifier for all runs, trained on the data once and kept."""
    if (out / "classifier" / "classifier.json").is_file():
        return
    say("training the classifier of all runs ...")
    data = config.data
    lines = train_classifier(
        data.shards or data.source,
        out / "classifier",
        ClassifierConfig(size=data.size),
        str(choose_device(device)),
    )
    say("\n".join(line for line in lines if not line.startswith("next")))


def make_plan(
    given: Sequence[Config],
    budget: Budget,
    seeds: Sequence[int],
    out: Path,
    points: int,
    device: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What OUT says is to be done; new recipes and seeds are added to it.

    Raises:
        ConfigError: if it says another thing.
    """
    path = out / PLAN
    plan: dict[str, Any] = {"format": FORMAT, "budget": budget.text, "points": points,
                            "seeds": [], "entries": []}  # fmt: skip
    if path.is_file():
        plan = read_json(path)
        for name, value in (("format", FORMAT), ("budget", budget.text), ("points", points)):
            if plan[name] != value:
                raise ConfigError(
                    f"`{out}` holds a comparison whose {name} is {plan[name]!r}, not {value!r}",
                    "choose another --out",
                )
    known = {entry["name"]: entry for entry in plan["entries"]}
    for config in given:
        said = json.loads(json.dumps(asdict(replace(config, seed=0))))
        if config.name not in known:
            evaluation = shared_evaluation(given, out)
            entry = expected(replace(config, evaluate=evaluation), budget, points, device)
            plan["entries"].append({"name": config.name, "given": said, **entry})
        elif known[config.name]["given"] != said:
            raise ConfigError(
                f"`{out}` holds a comparison with other settings of `{config.name}`",
                "choose another --out, or repeat the settings it was started with",
            )
    plan["seeds"] += [seed for seed in seeds if seed not in plan["seeds"]]
    with atomic_file(path) as draft:
        write_json(draft, plan)
    for entry in plan["entries"]:
        say(
            f"{entry['name']}: {entry['duration']}, about {entry['steps']:,} steps and "
            f"{clock(entry['expected_seconds'])}; {entry['operations_per_step'] / 1e9:,.1f} GFLOP "
            f"a step, {entry['steps_per_second']:.1f} steps/s in a trial"
        )
    total = sum(entry["expected_seconds"] for entry in plan["entries"]) * len(plan["seeds"])
    say(f"{len(plan['entries']) * len(plan['seeds'])} runs in `{out}`: about {clock(total)} in all")
    return plan


def expected(config: Config, budget: Budget, points: int, device: str) -> dict[str, Any]:
    """One recipe's run: its config, and what it is expected to cost.

    Raises:
        ConfigError: if its networks do not fit the data, or the budget is less than a step.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    task = read_task(config)
    counts = count(config, task)
    batch_size = config.train.batch_size
    per_step = counts.of_run(config, config.train.micro_batches) * batch_size
    rate = steps_per_second(config, task, device)
    duration = budget.duration(per_step)
    images = config.images_per_step
    steps = max(1, round(budget.seconds * rate))
    if not budget.seconds:
        steps = count_steps(duration, "--budget", images, task.num_rows)
    part = f"{max(1, math.ceil(steps / points))} steps"
    every = EveryConfig(f"{max(1, steps // 200)} steps", part, part, part)
    config = configs.resolve(
        replace(config, train=replace(config.train, duration=duration), every=every)
    )
    drawn = points * config.evaluate.num_images * counts.generator_forward
    return {
        "config": asdict(config),
        "duration": duration,
        "steps": steps,
        "operations_per_step": per_step,
        "generator_forward": counts.generator_forward,
        "parameters": [counts.generator, counts.discriminator],
        "images_per_step": images,
        "steps_per_second": rate,
        "expected_seconds": steps / rate + drawn / (per_step * rate),
    }


def steps_per_second(config: Config, task: Task, device: str) -> float:
    """From a few steps on noise."""
    here = choose_device(device)
    batch_size = config.train.batch_size
    return images_per_second(config, task, here, batch_size, TRIAL_SECONDS) / batch_size


def run_one(
    entry: dict[str, Any], seed: int, folder: Path, device: str, say: Callable[[str], None]
) -> int | None:
    """Train one recipe with one seed to its end, and write down how it ended."""
    config = replace(configs.resolve(configs.parse(entry["config"])), seed=seed)
    outcome: dict[str, Any] = {"status": "finished", "reason": ""}
    try:
        ended = train(config, folder, device)
        if ended.stopped_by:
            return ended.stopped_by
    except CompleteError:
        pass  # killed after its evaluation
    except (ScaleganError, RuntimeError, ArithmeticError) as error:  # no result is hidden
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        outcome = {"status": "failed", "reason": reason}
        say(f"{folder.name} failed: {reason}")
    if outcome["status"] == "finished":
        outcome["sample_seconds"] = sample_seconds(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / OUTCOME) as draft:
        write_json(draft, outcome | {"threads": torch.get_num_threads()})
    return None


def sample_seconds(folder: Path, images: int = 64) -> float:
    """Seconds per image of the finished generator, in a batch: the best of three."""
    gan, found = load(folder), []
    for _ in range(3):
        started = time.perf_counter()
        gan.sample(images)
        found.append((time.perf_counter() - started) / images)
    return min(found)


def clock(seconds: float) -> str:
    """A time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
