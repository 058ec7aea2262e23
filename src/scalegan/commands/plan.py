"""`scalegan plan`: what a run will need, before it is started."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from scalegan.commands.flags import Count, CountOrZero, parse_with_recipe
from scalegan.config.overrides import read_with
from scalegan.config.schema import Config


@dataclass(frozen=True)
class Plan:
    """Estimate what a run needs: parameters, operations, memory, micro-batches, time and disk."""

    recipe: tyro.conf.Positional[str]
    """The name of a recipe, or a TOML file such as the config.toml of another run."""
    device: str = "auto"
    """What to plan for: auto, cpu or cuda is this machine; else a GPU that need not be here:
    h200, h100, a100-80, a100-40, l40s, rtx4090 or rtx3090."""
    ranks: Count = 1
    """The number of processes of the run, one device each."""
    measure: bool = True
    """Measure the speed by a few steps where the device is here, instead of estimating it."""
    rows: CountOrZero = 0
    """The number of images in the data set; 0 reads it from the data."""
    classes: CountOrZero = 0
    """The number of classes in the data set; 0 reads it from the data."""
    side: CountOrZero = 0
    """The side of the images in pixels; 0 reads it from the data."""
    scale: bool = False
    """Show a table for 1, 8, 64 and 512 GPUs of the named kind (h200 if none is) instead."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def plan_command(arguments: list[str]) -> None:
    flags, settings = parse_with_recipe(Plan, "plan", arguments)
    config = read_with(flags.recipe, settings)

    from scalegan.planning.plan import plan_lines, read_task
    from scalegan.planning.scale import scale_table
    from scalegan.train.throughput import images_per_second

    task = read_task(config, flags.rows, flags.classes, flags.side)
    if flags.scale:
        lines = scale_table(config, task, flags.device)
    else:
        measure = images_per_second if flags.measure else None
        lines = plan_lines(config, task, flags.device, flags.ranks, measure)
    print("\n".join(lines))
