"""`scalegan train`: a run is started from a recipe, or resumed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import UNSET, parse_with_recipe
from scalegan.config.overrides import read_with
from scalegan.config.reading import to_toml
from scalegan.config.schema import Config


@dataclass(frozen=True)
class Train:
    """Train a GAN from a recipe; the same command again resumes a run that was stopped."""

    recipe: tyro.conf.Positional[str]
    """The name of a recipe, or a TOML file such as the config.toml of another run."""
    run: Annotated[Path | None, UNSET] = None
    """The folder of the run; runs/NAME with the name of the recipe if not given."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, or auto for a GPU if there is one."""
    resume: Annotated[Path | None, UNSET] = None
    """Resume from this checkpoint instead of the newest one of the run."""
    init_from: Annotated[Path | None, UNSET] = None
    """Start a new run from the weights of this snapshot or run."""
    dry_run: bool = False
    """Check all settings and print them as TOML, without training."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def train_command(arguments: list[str]) -> int:
    flags, settings = parse_with_recipe(Train, "train", arguments)
    config = read_with(flags.recipe, settings)
    if flags.dry_run:
        from scalegan.train.build import check_names

        check_names(config)
        print(to_toml(config), end="")
        return 0

    from scalegan.runtime.world import leave
    from scalegan.train.loop import train

    run = flags.run or Path("runs") / config.name
    outcome = train(config, run, flags.device, flags.resume, flags.init_from)
    leave()
    return 128 + outcome.stopped_by if outcome.stopped_by else 0
