"""Terms of the objective on and off, and guidance and truncation of the recipe's own generator."""

from dataclasses import replace
from statistics import mean
from typing import Any

from scalegan.config.schema import Config
from scalegan.evaluation import evaluate
from scalegan.evaluation.images import ImageOptions
from scalegan.inference.gan import load
from scalegan.interfaces import GuidesStyle
from scalegan.losses.tables import ADVERSARIAL
from scalegan.reports.comparison_page import spread_text
from scalegan.reports.page import Figure, Gallery, Plot, Section, Table, Text
from scalegan.reports.plots import trade_off
from scalegan.reports.truncation_sweep import usable_truncations
from scalegan.runtime.world import join
from scalegan.studies.study import Findings, Request, StudyData

BASE = "recipe"
PSIS = (0.3, 0.5, 0.7, 0.85)
SCALES = (1.25, 1.5, 2.0)
"""Of guidance; 1 is none."""
SHARES = (0.25, 0.5)
"""Of a batch that penalties are measured on."""


def objective(request: Request) -> list[Config]:
    """The recipe, and it with one term of its objective changed or left out."""
    own = request.variant(BASE)
    penalty, augment = own.objective.penalty, own.objective.augment
    changes: dict[str, dict[str, Any]] = {BASE: {}}
    if penalty.r1 and penalty.r2:
        changes["no-r1"] = {"objective.penalty.r1": 0.0}
        changes["no-r2"] = {"objective.penalty.r2": 0.0}
    if penalty.r1 or penalty.r2:
        changes["no-penalty"] = {"objective.penalty.r1": 0.0, "objective.penalty.r2": 0.0}
        for share in SHARES if penalty.kind == "finite-difference" else ():
            changes[f"penalty-share-{share:g}"] = {"objective.penalty.share": share}
    for name in ADVERSARIAL:
        changes[name] = {"objective.adversarial": name}
    parts = ("color", "translation", "cutout", "flip")
    if (
        augment.is_used
        and not own.objective.consistency
        and not (augment.in_turn or augment.paired)
    ):
        changes["no-augment"] = {f"objective.augment.{part}": 0.0 for part in parts}
    found = [request.variant(name, change) for name, change in changes.items()]
    return [own, *(c for c in found if replace(c, name=BASE) != own)]


def trade_offs(data: StudyData) -> Findings:
    """Distance against recall of the recipe's generators along truncation and guidance."""
    found: dict[str, list[dict[str, float]]] = {}
    for run in data.finished:
        if run.entry["name"] != BASE:
            continue
        gan = load(run.folder, data.device)
        options = ImageOptions(num=data.num_images)
        asked = evaluate.Request(str(run.folder), "", "fid,pr", data.features, options)
        evaluation = evaluate.Evaluation(asked, join(data.device))
        psis = [psi for psi in usable_truncations(gan, PSIS) if psi is not None]
        scales = SCALES if isinstance(gan.generator, GuidesStyle) and gan.card.class_names else ()
        drawn = {f"psi {psi:g}": replace(evaluation.options, truncation=psi) for psi in psis}
        drawn["none"] = evaluation.options
        drawn |= {f"guidance {s:g}": replace(evaluation.options, guidance=s) for s in scales}
        for name, option in drawn.items():
            fake = evaluation.collect(option)
            numbers = evaluation.measure(evaluation.metrics, fake, with_floor=False)
            values = {number.name: number.value for number in numbers if number.value is not None}
            found.setdefault(name, []).append(values)
    sections = [trade_off_section(found, data.distance)] if found else []
    return Findings({"generator": BASE, "trade_offs": found}, [], sections)


def trade_off_section(found: dict[str, list[dict[str, float]]], distance: str) -> Section:
    """Distance against recall, a plot each for truncation and guidance, and all numbers."""
    plots: list[Figure | Plot] = []
    for kind in ("psi", "guidance"):
        points = {
            name: (mean(v["recall"] for v in runs), mean(v[distance] for v in runs))
            for name, runs in found.items()
            if name.startswith((kind, "none"))
            and all({"recall", distance} <= v.keys() for v in runs)
        }
        if len(points) > 1:
            caption = f"{distance} against recall along {kind}, mean over seeds."
            plots.append(trade_off(points, f"recall, {kind}", distance, caption))
    metrics = sorted({metric for runs in found.values() for v in runs for metric in v})
    rows = [
        [name, *(spread_text([v[m] for v in runs if m in v]) for m in metrics)]
        for name, runs in found.items()
    ]
    text = "Generators of the unchanged recipe. The smaller psi, the more truncation."
    table = Table(["", *metrics], rows)
    return Section("Guidance and truncation", [Text(text), Gallery(plots), table])
