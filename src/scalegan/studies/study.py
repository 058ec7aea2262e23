"""A study: runs that differ in one thing, trained by the engine of `compare`, and what they show.

OUT is the folder of a comparison (`reports.compare`) with the study's results beside it:
OUT/study.json has every number, OUT/study.html shows them.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from scalegan.config import reading as configs
from scalegan.config.budget import EXAMPLES, Budget
from scalegan.config.models import GATConfig
from scalegan.config.overrides import read_with
from scalegan.config.schema import Config
from scalegan.errors import ConfigError, ScaleganError
from scalegan.reports.compare import (
    SHARED,
    check_comparable,
    ensure_classifier,
    train_all,
    update_plan,
)
from scalegan.reports.comparison_data import OUTCOME, ComparedRun, ComparisonData, read_comparison
from scalegan.reports.comparison_page import comparison_sections, final_table
from scalegan.reports.page import Block, Page, Section, Table, Text, write_page
from scalegan.runtime.files import locked, read_json, write_json
from scalegan.runtime.text import aligned
from scalegan.runtime.world import join
from scalegan.version import __version__

FORMAT = 1
JSON, HTML, MARKDOWN, PROBE = "study.json", "study.html", "study.md", "probe.json"
CONVENTION = (
    "Operations are those of products and convolutions, two per multiply-add, counted without "
    "running them. C is the operations of a run's training: per image and step, those of both "
    "networks in all their turns, forward and backward, penalties and recomputation included; "
    "encoding, decoding, a frozen teacher and evaluations are not in it."
)

PRINTED = ("name", "title", "floor", "num_real", "fingerprint", "marks")
"""Of a metric, in OUT/study.json."""


@dataclass(frozen=True)
class Request:
    """What a study starts from, and what it is to vary."""

    recipe: str
    settings: Mapping[str, Any]
    """Values by dotted name that take the place of the recipe's."""
    values: tuple[str, ...] = ()
    """That a setting is swept over; empty = as the study has them."""
    shards: str = ""
    """Of latents, to be trained on beside the recipe's own data."""

    def variant(self, name: str, changes: Mapping[str, Any] | None = None) -> Config:
        """The recipe with some settings changed, under another name.

        Raises:
            ConfigError: if the settings do not fit together.
        """
        return replace(read_with(self.recipe, {**self.settings, **(changes or {})}), name=name)

    def gat(self) -> GATConfig:
        """The recipe's networks, if they are a GAT; ConfigError if not."""
        model = self.variant("").model
        if not isinstance(model, GATConfig):
            raise ConfigError(
                f"this study is of `gat`, but `{self.recipe}` has `{model.architecture}`",
                "choose a recipe of gat",
            )
        return model


class StudyData(NamedTuple):
    """What the runs of a study have left, and what was measured before them."""

    comparison: ComparisonData
    probe: Any
    """What `Study.probe` returned."""
    device: str

    @property
    def distance(self) -> str:
        """Name of the Frechet distance among the metrics; empty where it was not measured."""
        numbers = self.comparison.numbers
        return next((number.name for number in numbers if number.metric == "fid"), "")

    @property
    def measured(self) -> list[ComparedRun]:
        """The runs with a distance at their end."""
        return [run for run in self.comparison.runs if self.distance in run.final]

    @property
    def finished(self) -> list[ComparedRun]:
        """The runs that have come to their end, and so left a generator."""
        return [run for run in self.comparison.runs if run.status == "finished"]

    @property
    def features(self) -> str:
        """The feature networks of all evaluations, as `--features` has them."""
        return str(self.comparison.plan["entries"][0]["config"]["evaluate"]["features"])

    @property
    def num_images(self) -> int:
        """Images of every evaluation."""
        return int(self.comparison.plan["entries"][0]["config"]["evaluate"]["num_images"])


class Findings(NamedTuple):
    """What a study's runs show."""

    numbers: dict[str, Any]
    """As JSON."""
    sentences: list[str]
    """For the console and the top of the page."""
    sections: list[Section]


class Study(NamedTuple):
    """One analysis: its runs, and what is measured of them."""

    about: str
    """A sentence on what is asked."""
    variants: Callable[[Request], list[Config]]
    """The resolved configs of its runs, each with a name of its own."""
    findings: Callable[[StudyData], Findings]
    """Called when every run has ended, well or not."""
    budget: str = "2000 steps"
    """That each run may spend if nothing else is asked for."""
    probe: Callable[[Sequence[Config], str], Any] | None = None
    """A cheap measurement before the runs, by their configs and the device; JSON."""
    takes: tuple[str, ...] = ()
    """Which of `values` and `shards` it varies."""
    shared: tuple[str, ...] = SHARED
    """Settings that all variants have in common."""
    is_at_equal_operations: bool = False
    """Whether runs must spend operations, and nothing else, to be compared."""


def run_study(
    name: str,
    study: Study,
    request: Request,
    budget: Budget,
    seeds: Sequence[int],
    out: Path,
    points: int = 6,
    device: str = "auto",
) -> int | None:
    """Make a study, or go on with it: probe, train all runs, write the page after every one.

    Args:
        name: of the study, for messages and the page.
        budget: that each run may spend.
        out: the study's folder; created if need be.
        points: evaluations along a run, the last one at its end.
        device: as `runtime.world.join` has it.

    Returns:
        The number of the signal that stopped it, if one did.

    Raises:
        ConfigError: if the request does not fit the study, or OUT holds another one.
    """
    for flag in ("values", "shards"):
        if getattr(request, flag) and flag not in study.takes:
            raise ConfigError(f"`--{flag}` is set but `scalegan study {name}` does not vary it")
    if study.is_at_equal_operations and not budget.operations:
        raise ConfigError(
            f"`scalegan study {name}` compares at equal operations, but `--budget` is "
            f'"{budget.text}"',
            f"name a number of operations, of: {EXAMPLES}",
        )
    given = study.variants(request)
    check_comparable(given, study.shared)
    device = str(join(device).device)
    if given[0].train.threads:
        torch.set_num_threads(given[0].train.threads)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "studying in"):
        plan = update_plan(given, budget, seeds, out, points, device, name)
        ensure_classifier(given[0], out, device)
        probe_once(study, plan, out, device)
        write = partial(write_study, name, study, request, device)
        return train_all(plan, out, device, write)


def probe_once(study: Study, plan: dict[str, Any], out: Path, device: str) -> None:
    """Write OUT/probe.json, unless it is there and of the same variants."""
    names, path = [entry["name"] for entry in plan["entries"]], out / PROBE
    if study.probe is None or (path.is_file() and read_json(path)["variants"] == names):
        return
    print(f"probing {len(names)} variants ...")
    config = [configs.resolve(configs.parse(entry["config"])) for entry in plan["entries"]]
    write_json(path, {"variants": names, "result": study.probe(config, device)})


def write_study(name: str, study: Study, request: Request, device: str, out: Path) -> list[str]:
    """Write OUT/study.json and OUT/study.html about what is there; return lines for people."""
    comparison = read_comparison(out)
    probe = read_json(out / PROBE)["result"] if (out / PROBE).is_file() else None
    data = StudyData(comparison, probe, device)
    left = sum(not (run.folder / OUTCOME).is_file() for run in comparison.runs)
    findings = Findings(
        {}, [f"{left} runs are still to come; what they show stands here then."], []
    )
    if not left:
        try:
            findings = study.findings(data)
        except ScaleganError as error:  # the runs are shown all the same
            findings = Findings({"missing": str(error)}, [f"Not measured: {error}."], [])
    about = {
        "format": FORMAT,
        "study": name,
        "about": study.about,
        "recipe": request.recipe,
        "settings": dict(request.settings),
        "version": __version__,
    }
    write_json(out / JSON, about | study_numbers(data, findings))
    page = study_page(name, study, request, data, findings, out)
    write_page(page, out / HTML, out / MARKDOWN)
    table = final_table(comparison)
    lines = aligned([table.head, *table.rows])
    return [*lines, *findings.sentences, f"page: {out / HTML}   numbers: {out / JSON}"]


def study_numbers(data: StudyData, findings: Findings) -> dict[str, Any]:
    """Everything that was planned and measured; what depends on the clock is under `timing`."""
    comparison = data.comparison
    metrics = [
        {key: value for key, value in vars(number).items() if key in PRINTED}
        | {"features": number.protocol["features"]}
        for number in comparison.numbers
    ]
    return {
        "protocol": {
            **{key: comparison.plan[key] for key in ("budget", "points", "seeds")},
            "operations": CONVENTION,
            "num_images": data.num_images,
            "metrics": metrics,
        },
        "runs": [run_numbers(run) for run in comparison.runs],
        "findings": findings.numbers,
        "timing": {
            "machine": platform.machine(),
            "device": data.device,
            "torch": torch.__version__,
            "runs": {
                run.folder.name: {
                    "seconds": run.seconds,
                    "seconds_per_sample": run.sample_seconds,
                    "evaluations": [point.seconds for point in run.evaluations],
                }
                for run in comparison.runs
            },
        },
    }


def run_numbers(run: ComparedRun) -> dict[str, Any]:
    """One run, whatever became of it."""
    entry = run.entry
    points = [vars(point) for point in run.evaluations]
    return {
        "run": run.folder.name,
        "variant": entry["name"],
        "status": run.status,
        "reason": run.reason,
        "steps": run.step,
        "images": run.step * entry["images_per_step"],
        "operations": run.step * entry["operations_per_step"],
        "operations_per_sample": entry["generator_forward"],
        "parameters": entry["parameters"],
        "final": run.final,
        "evaluations": [{k: v for k, v in point.items() if k != "seconds"} for point in points],
    }


def study_page(
    name: str, study: Study, request: Request, data: StudyData, findings: Findings, out: Path
) -> Page:
    """What was found, then the runs as a comparison shows them."""
    plan = data.comparison.plan
    seeds = ", ".join(map(str, plan["seeds"]))
    conventions: list[Block] = [Text(CONVENTION)]
    if request.settings:
        rows = [[key, str(value)] for key, value in request.settings.items()]
        conventions.append(Table(["setting", "instead of the recipe's"], rows))
    return Page(
        f"Study: {name}",
        f"{study.about} {request.recipe}: {plan['budget']} of training each, seeds {seeds}",
        [
            Section("What was found", [Text(sentence) for sentence in findings.sentences]),
            *findings.sections,
            *comparison_sections(data.comparison, out),
            Section("Conventions", conventions),
        ],
        f"Made by scalegan study {name}, {time.strftime('%Y-%m-%d %H:%M')}",
    )
