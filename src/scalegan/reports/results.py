"""What the runs of a comparison left behind, as numbers."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scalegan.evaluation.measure import Number
from scalegan.evaluation.results import read_result
from scalegan.runtime.files import read_json
from scalegan.runtime.log import read_lines, read_metrics
from scalegan.train.clock import NAME as CLOCK

PLAN, RUNS, OUTCOME = "comparison.json", "runs", "outcome.json"
PREFIX = "evaluate/"


@dataclass
class Point:
    """One evaluation along a run."""

    step: int
    images: int
    seconds: float | None
    operations: int
    values: dict[str, float]


@dataclass
class Run:
    """One recipe with one seed, finished or not."""

    recipe: str
    seed: int
    folder: Path
    status: str
    reason: str
    step: int
    seconds: float
    sample_seconds: float | None
    points: list[Point] = field(default_factory=list)

    @property
    def final(self) -> dict[str, float]:
        """What was measured at its end; nothing of a run that has none."""
        is_measured = self.points and self.points[-1].step == self.step
        return self.points[-1].values if self.status == "finished" and is_measured else {}


@dataclass
class Results:
    """A whole comparison."""

    plan: dict[str, Any]
    runs: list[Run]
    numbers: list[Number]
    """With protocols and floors, of any one finished run of each set of metrics."""

    def of(self, recipe: str) -> list[Run]:
        return [run for run in self.runs if run.recipe == recipe]


def run_name(recipe: str, seed: int) -> str:
    return f"{recipe}-seed-{seed}"


def read_results(out: Path) -> Results:
    """Everything that is there, of a comparison that may still be under way."""
    plan = read_json(out / PLAN)
    runs = [
        read_run(out / RUNS / run_name(entry["name"], seed), entry, seed)
        for entry in plan["entries"]
        for seed in plan["seeds"]
    ]
    numbers: dict[str, Number] = {}
    for run in runs:
        path = run.folder / "evaluation.json"
        for number in read_result(path) if path.is_file() else []:
            numbers.setdefault(number.name, number)
            if numbers[number.name].floor is None:
                numbers[number.name] = number
    return Results(plan, runs, list(numbers.values()))


def read_run(folder: Path, entry: dict[str, Any], seed: int) -> Run:
    """One run, from its folder."""
    lines, shown = read_metrics(folder), read_lines(folder / CLOCK)
    seconds = {line["step"]: line["seconds"] for line in shown}
    path = folder / OUTCOME
    outcome = read_json(path) if path.is_file() else {}
    points = [
        Point(
            line["step"],
            line["images_seen"],
            seconds.get(line["step"]),
            line["step"] * entry["operations_per_step"],
            {
                name.removeprefix(PREFIX): value
                for name, value in line.items()
                if name.startswith(PREFIX) and value is not None
            },
        )
        for line in lines
        if "fingerprint" in line
    ]
    step = max([line["step"] for line in [*lines, *shown]], default=0)
    run = Run(
        entry["name"],
        seed,
        folder,
        outcome.get("status", "unfinished" if step else "not begun"),
        outcome.get("reason", ""),
        step,
        max(seconds.values(), default=0.0),
        outcome.get("sample_seconds"),
        points,
    )
    if run.status == "finished" and not run.final:
        run.reason = "its last evaluation had no result; see its log.txt"
    return run


def spread(values: list[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds, or the one value."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}g}"
    return f"{mean(values):.{digits}g} ± {stdev(values):.2g}"
