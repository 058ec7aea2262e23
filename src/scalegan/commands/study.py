"""`scalegan study`: one of the GAT paper's analyses on one's own data, and a page about it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import OUT, UNSET, Count, parse_seeds, parse_with_recipe
from scalegan.config.budget import parse_budget
from scalegan.config.reading import choose
from scalegan.config.schema import Config
from scalegan.errors import ConfigError


@dataclass(frozen=True)
class Study:
    """Train a recipe several times, with one thing changed, and write a page on what it shows.

    NAME comes before RECIPE: sizes, patches (how quality grows with operations), rates (learning
    rates by width), levels (multi-level guidance), latents (pixels against latents) or objective
    (terms on and off). The same command again resumes a study that was stopped.
    """

    recipe: tyro.conf.Positional[str]
    """A recipe's name or a TOML file."""
    values: str = ""
    """What sizes, patches and rates vary, separated by commas: sizes (S,B,B/S) or widths (32,64);
    patch sizes; widths. Empty takes half, once and twice what the recipe has."""
    shards: Annotated[str, UNSET] = ""
    """Shards of latents of the recipe's images, for latents alone."""
    budget: Annotated[str, UNSET] = ""
    """What each run may spend: "2000 steps", "500k images", "2 PFLOP", "20 minutes".
    If not given, 2000 steps; for latents 10 TFLOP."""
    seeds: str = "0"
    """The seeds that each variant is trained with, such as 0,1 or 0-2."""
    out: Annotated[Path | None, OUT, UNSET] = None
    """The folder of the page, the classifier and the runs; runs/study-NAME if not given."""
    points: Count = 6
    """The number of evaluations along a run, the last one at its end."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, or auto for a GPU if there is one."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def study_command(arguments: list[str]) -> int:
    if not {"-h", "--help"} & set(arguments) and (not arguments or arguments[0].startswith("-")):
        raise ConfigError("`scalegan study` needs NAME and RECIPE, in this order")
    name, *rest = ["", *arguments] if arguments[0].startswith("-") else arguments
    flags, settings = parse_with_recipe(Study, f"study {name or 'NAME'}", rest)
    seeds = parse_seeds(flags.seeds)
    values = tuple(part.strip() for part in flags.values.split(",") if part.strip())

    from scalegan.studies.study import Request, run_study
    from scalegan.studies.tables import STUDIES

    study = choose(STUDIES, name, "NAME")
    stopped_by = run_study(
        name,
        study,
        Request(flags.recipe, settings, values, flags.shards),
        parse_budget(flags.budget or study.budget),
        seeds,
        flags.out or Path(f"runs/study-{name}"),
        flags.points,
        flags.device,
    )
    return 128 + stopped_by if stopped_by else 0
