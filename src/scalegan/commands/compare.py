"""`scalegan compare`: recipes trained at equal time or compute, and a page about them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import OUT, Count, parse_seeds, parse_with_recipe
from scalegan.config.budget import parse_budget
from scalegan.config.overrides import read_with
from scalegan.config.schema import Config
from scalegan.errors import ConfigError


@dataclass(frozen=True)
class Compare:
    """Train recipes on the same data at equal time or compute, and write a page about them.

    All are evaluated in the same way. The same command again resumes a comparison that was stopped.
    Settings that are given hold for all recipes.
    """

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE ...")]
    """Two recipes or more, each a name or a TOML file."""
    budget: str = "20 minutes"
    """What each run may spend: "20 minutes" of training, "2 PFLOP", "2000 steps", "500k images"."""
    seeds: str = "0"
    """The seeds that each recipe is trained with, such as 0,1 or 0-2."""
    out: Annotated[Path, OUT] = Path("runs/comparison")
    """The folder of the page, the classifier and the runs."""
    points: Count = 6
    """The number of evaluations along a run, the last one at its end."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, or auto for a GPU if there is one."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def compare_command(arguments: list[str]) -> int:
    flags, settings = parse_with_recipe(Compare, "compare", arguments)
    if len(flags.recipes) < 2:
        raise ConfigError("`scalegan compare` needs two recipes or more")
    budget, seeds = parse_budget(flags.budget), parse_seeds(flags.seeds)
    configs = [read_with(recipe, settings) for recipe in flags.recipes]

    from scalegan.reports.compare import compare

    stopped_by = compare(configs, budget, seeds, flags.out, flags.points, flags.device)
    return 128 + stopped_by if stopped_by else 0
