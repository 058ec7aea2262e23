"""What a comparison of recipes has planned and its runs have left: the files, as numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalegan.evaluation.measure import Number
from scalegan.evaluation.results import read_result
from scalegan.runtime.files import read_json
from scalegan.runtime.log import read_lines, read_metrics
from scalegan.train.clock import NAME as CLOCK
from scalegan.train.curves import EVALUATED

PLAN, RUNS, OUTCOME = "comparison.json", "runs", "outcome.json"


@dataclass
class EvaluatedPoint:
    """One evaluation along a run."""

    step: int
    images_seen: int
    seconds: float | None
    """Of training."""
    operations: int
    values: dict[str, float]
    """By the metric's name."""


@dataclass
class ComparedRun:
    """One recipe trained with one seed, finished or not."""

    entry: dict[str, Any]
    """Of its recipe in the plan."""
    folder: Path
    status: str
    reason: str
    step: int
    seconds: float
    """Of training."""
    sample_seconds: float | None
    """Per image."""
    evaluations: list[EvaluatedPoint]

    @property
    def final(self) -> dict[str, float]:
        """What was measured at its end; empty for a run that has not ended well."""
        is_measured = self.evaluations and self.evaluations[-1].step == self.step
        return self.evaluations[-1].values if self.status == "finished" and is_measured else {}


@dataclass
class ComparisonData:
    """A whole comparison, which may still be under way."""

    plan: dict[str, Any]
    """comparison.json."""
    runs: list[ComparedRun]
    numbers: list[Number]
    """With protocols and floors, of any one finished run of each set of metrics."""

    @property
    def metric_names(self) -> list[str]:
        """Names of all metrics that were evaluated."""
        return [number.name for number in self.numbers]

    def of(self, recipe: str) -> list[ComparedRun]:
        """The runs of one recipe."""
        return [run for run in self.runs if run.entry["name"] == recipe]


def run_name(recipe: str, seed: int) -> str:
    """The name of a run's folder."""
    return f"{recipe}-seed-{seed}"


def read_comparison(out: Path) -> ComparisonData:
    """Everything that is there, of a comparison that may still be under way."""
    plan = read_json(out / PLAN)
    runs = [
        read_compared_run(out / RUNS / run_name(entry["name"], seed), entry)
        for entry in plan["entries"]
        for seed in plan["seeds"]
    ]
    numbers: dict[str, Number] = {}
    for run in runs:
        path = run.folder / "evaluation.json"
        for number in read_result(path) if path.is_file() else []:
            known = numbers.get(number.name)
            if known is None or known.floor is None:
                numbers[number.name] = number
    return ComparisonData(plan, runs, list(numbers.values()))


def read_compared_run(folder: Path, entry: dict[str, Any]) -> ComparedRun:
    """One run, from its folder.

    Args:
        entry: of its recipe in the plan.
    """
    lines, clock = read_metrics(folder), read_lines(folder / CLOCK)
    seconds = {line["step"]: line["seconds"] for line in clock}
    step = max((line["step"] for line in [*lines, *clock]), default=0)
    path = folder / OUTCOME
    outcome = read_json(path) if path.is_file() else {}
    evaluations = [
        EvaluatedPoint(
            step=line["step"],
            images_seen=line["images_seen"],
            seconds=seconds.get(line["step"]),
            operations=line["step"] * entry["operations_per_step"],
            values={
                name.removeprefix(EVALUATED): value
                for name, value in line.items()
                if name.startswith(EVALUATED) and value is not None
            },
        )
        for line in lines
        if "fingerprint" in line
    ]
    run = ComparedRun(
        entry=entry,
        folder=folder,
        status=outcome.get("status", "unfinished" if step else "not begun"),
        reason=outcome.get("reason", ""),
        step=step,
        seconds=max(seconds.values(), default=0.0),
        sample_seconds=outcome.get("sample_seconds"),
        evaluations=evaluations,
    )
    if run.status == "finished" and not run.final:
        run.reason = "its last evaluation had no result; see its log.txt"
    return run
