"""The studies by the name that `scalegan study` has."""

from scalegan.reports.compare import SHARED
from scalegan.studies import latents, levels, objective, rates, sweeps
from scalegan.studies.study import Study

STUDIES = {
    "sizes": Study(
        "How quality grows with the size of the networks.",
        sweeps.sizes,
        sweeps.scaling,
        takes=("values",),
    ),
    "patches": Study(
        "How quality grows as patches become smaller.",
        sweeps.patches,
        sweeps.scaling,
        takes=("values",),
    ),
    "rates": Study(
        "Whether wider networks need smaller learning rates.",
        rates.rates,
        rates.stability,
        probe=rates.probe,
        takes=("values",),
    ),
    "levels": Study(
        "What multi-level guidance is worth, and what blocks and levels do.",
        levels.levels,
        levels.contributions,
    ),
    "latents": Study(
        "Whether latents are worth it, at equal operations of training.",
        latents.latents,
        latents.costs,
        budget="10 TFLOP",
        takes=("shards",),
        shared=tuple(name for name in SHARED if not name.startswith("data.")),
        is_at_equal_operations=True,
    ),
    "objective": Study(
        "What each term of the objective is worth, and guidance and truncation.",
        objective.objective,
        objective.trade_offs,
    ),
}
