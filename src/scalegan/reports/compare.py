"""`scalegan compare`: recipes on the same data by the same evaluation, at equal time or compute.

Each run is an ordinary one in OUT/runs. What is decided before the start is in
OUT/comparison.json, so that the same command goes on from wherever it was stopped.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from scalegan.config import reading as configs
from scalegan.config.auxiliary import ClassifierConfig
from scalegan.config.budget import Budget
from scalegan.config.durations import count_steps
from scalegan.config.schema import Config, EvaluateConfig, EveryConfig
from scalegan.errors import CompleteError, ConfigError, ScaleganError
from scalegan.evaluation.classifier import train_classifier
from scalegan.inference.gan import load
from scalegan.planning.cost import count
from scalegan.planning.plan import read_task
from scalegan.reports.comparison_data import OUTCOME, PLAN, RUNS, run_name
from scalegan.reports.comparison_page import write_comparison
from scalegan.runtime.files import locked, read_json, write_json
from scalegan.runtime.text import clock
from scalegan.runtime.world import join
from scalegan.train.loop import train
from scalegan.train.throughput import images_per_second

FORMAT = 1
NUM_IMAGES = 1000
"""Evaluated where no recipe says how many."""
TRIAL_SECONDS = 2.0
"""Seconds of steps on noise that tell how fast a recipe is."""
SHARED = (
    "data.source",
    "data.shards",
    "data.size",
    "train.threads",
    "evaluate.metrics",
    "evaluate.features",
)
"""Settings that all recipes have in common."""


def compare(
    given: Sequence[Config],
    budget: Budget,
    seeds: Sequence[int],
    out: Path,
    points: int = 6,
    device: str = "auto",
) -> int | None:
    """Train all recipes with all seeds, or go on with it; write the page after every run.

    Args:
        given: resolved configs; their own seeds are not used.
        budget: that each run may spend.
        out: the folder of the comparison; created if need be.
        points: evaluations along a run, the last one at its end.
        device: as `runtime.world.join` has it.

    Returns:
        The number of the signal that stopped it, if one did.
    """
    check_comparable(given)
    device = str(join(device).device)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "comparing in"):
        plan = update_plan(given, budget, seeds, out, points, device)
        ensure_classifier(given[0], out, device)
        return train_all(plan, out, device, write_comparison)


def train_all(
    plan: dict[str, Any],
    out: Path,
    device: str,
    write: Callable[[Path], list[str]],
) -> int | None:
    """Train whatever a plan's runs have left to do.

    Args:
        write: writes the page about what is in OUT, after every run; returns lines for people.

    Returns:
        The number of the signal that stopped it, if one did.
    """
    lines: list[str] = []
    runs = [
        (entry, seed, out / RUNS / run_name(entry["name"], seed))
        for seed in plan["seeds"]
        for entry in plan["entries"]
    ]
    left = [(e, seed, folder) for e, seed, folder in runs if not (folder / OUTCOME).is_file()]
    for number, (entry, seed, folder) in enumerate(left):
        seconds = sum(e["expected_seconds"] for e, _, _ in left[number:])
        place = f"run {len(runs) - len(left) + number + 1} of {len(runs)}"
        print(f"\n{place}: {folder.name}; about {clock(seconds)} left in all")
        stopped_by = train_one(entry, seed, folder, device)
        lines = write(out)
        if stopped_by:
            return stopped_by
    print("\n" + "\n".join(lines or write(out)))
    return None


def check_comparable(given: Sequence[Config], shared: Sequence[str] = SHARED) -> None:
    """Check that recipes have names of their own, and data and evaluation in common.

    Args:
        shared: the settings that must be equal.

    Raises:
        ConfigError: if not.
    """
    names = [config.name for config in given]
    if len(set(names)) < len(names):
        raise ConfigError(f"two recipes have the same name: {', '.join(names)}")
    for name in shared:
        values = {config.name: attrgetter(name)(config) for config in given}
        if len(set(values.values())) > 1:
            shown = ", ".join(f"{value!r} of {recipe}" for recipe, value in values.items())
            flag = name.replace("_", "-")
            raise ConfigError(f"`{name}` differs: {shown}", f"say which for all: --{flag} ...")


def shared_evaluation(given: Sequence[Config], out: Path) -> EvaluateConfig:
    """The one evaluation that all runs share."""
    first = given[0].evaluate
    num = max(config.evaluate.num_images for config in given) or NUM_IMAGES
    features = first.features or f"classifier:{(out / 'classifier').absolute()}"
    return replace(first, num_images=num, features=features)


def ensure_classifier(config: Config, out: Path, device: str) -> None:
    """Train the one classifier of all runs on their data, unless it is there or not wanted."""
    if config.evaluate.features or (out / "classifier" / "classifier.json").is_file():
        return
    print("training the classifier of all runs ...")
    data = config.data
    lines = train_classifier(
        data.shards or data.source, out / "classifier", ClassifierConfig(size=data.size), device
    )
    print("\n".join(line for line in lines if not line.startswith("next")))


def update_plan(
    given: Sequence[Config],
    budget: Budget,
    seeds: Sequence[int],
    out: Path,
    points: int,
    device: str,
    study: str = "",
) -> dict[str, Any]:
    """Read OUT/comparison.json, add new recipes and seeds to it, and print what it will cost.

    Args:
        study: name of the study that the runs are for; empty = a comparison alone.

    Raises:
        ConfigError: if it was planned with another budget or other settings.
    """
    path = out / PLAN
    fixed: dict[str, Any] = {"format": FORMAT, "budget": budget.text}
    fixed |= {"points": points, "study": study}
    plan = fixed | {"seeds": [], "entries": []}
    if path.is_file():
        plan = read_json(path)
        for name, value in fixed.items():
            if plan.get(name, "") != value:
                found = plan.get(name, "")
                raise ConfigError(
                    f"`{out}` holds a comparison whose {name} is {found!r}, not {value!r}",
                    "choose another --out",
                )
    known = {entry["name"]: entry for entry in plan["entries"]}
    for config in given:
        settings = json.loads(json.dumps(asdict(replace(config, seed=0))))
        if config.name not in known:
            evaluation = shared_evaluation(given, out)
            entry = plan_recipe(replace(config, evaluate=evaluation), budget, points, device)
            plan["entries"].append({"name": config.name, "given": settings, **entry})
        elif known[config.name]["given"] != settings:
            raise ConfigError(
                f"`{out}` holds a comparison with other settings of `{config.name}`",
                "choose another --out, or repeat the settings it was started with",
            )
    plan["seeds"] += [seed for seed in seeds if seed not in plan["seeds"]]
    write_json(path, plan)
    for entry in plan["entries"]:
        print(
            f"{entry['name']}: {entry['duration']}, about {entry['steps']:,} steps and "
            f"{clock(entry['expected_seconds'])}; "
            f"{entry['operations_per_step'] / 1e9:,.1f} GFLOP a step, "
            f"{entry['steps_per_second']:.1f} steps/s in a trial"
        )
    total = sum(entry["expected_seconds"] for entry in plan["entries"]) * len(plan["seeds"])
    num_runs = len(plan["entries"]) * len(plan["seeds"])
    print(f"{num_runs} runs in `{out}`: about {clock(total)} in all")
    return plan


def plan_recipe(config: Config, budget: Budget, points: int, device: str) -> dict[str, Any]:
    """The config of one recipe's runs, and what each of them is expected to cost.

    Raises:
        ConfigError: if its networks do not fit the data, or the budget is less than a step.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    task = read_task(config)
    counts = count(config, task)
    batch_size = config.train.batch_size
    per_step = counts.of_run(config, config.train.micro_batches) * batch_size
    images_rate = images_per_second(config, task, torch.device(device), batch_size, TRIAL_SECONDS)
    rate = images_rate / batch_size
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


def train_one(entry: dict[str, Any], seed: int, folder: Path, device: str) -> int | None:
    """Train one recipe with one seed to its end, and write down how it ended.

    Returns:
        The number of the signal that stopped it before its end, if one did.
    """
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
        print(f"{folder.name} failed: {reason}")
    if outcome["status"] == "finished":
        outcome["sample_seconds"] = sample_seconds(folder)
    write_json(folder / OUTCOME, outcome | {"threads": torch.get_num_threads()})
    return None


def sample_seconds(folder: Path, images: int = 64) -> float:
    """Seconds per image of the finished generator, in a batch: the best of three."""
    gan, seconds = load(folder), []
    for _ in range(3):
        started = time.perf_counter()
        gan.sample(images)
        seconds.append((time.perf_counter() - started) / images)
    return min(seconds)
