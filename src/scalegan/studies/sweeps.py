"""Quality by size and by patch: a sweep at equal cost, and how distance falls with operations.

Sources: GAT (arXiv 2509.24935), figures on scaling; its page has the correlation of FID with the
logarithm of a generator pass's operations, and a power law in the operations of training.
"""

import math

from scalegan.config.models import DISCRIMINATOR_NUMBERS, GATConfig, Size
from scalegan.config.schema import Config
from scalegan.errors import ConfigError
from scalegan.planning.plan import read_task
from scalegan.reports.page import Gallery, Section
from scalegan.reports.plots import Series, line_plot
from scalegan.studies.fit import INTERVAL, PowerLaw, correlation, fit_power_law
from scalegan.studies.study import Findings, Request, StudyData

GIGA = 1e9


def sizes(request: Request) -> list[Config]:
    """The recipe at several sizes: S, B, ... or widths; "B/S" has a discriminator of its own size.

    Without values: half, once and twice the recipe's width. Heads grow with the width.
    """
    model = request.gat()
    width = model.width
    values = request.values or (str(width // 2), str(width), str(2 * width))
    return [sized(request, model, value) for value in values]


def sized(request: Request, model: GATConfig, value: str) -> Config:
    """The recipe at one size."""
    generator, _, discriminator = value.partition("/")
    is_width = generator.isdecimal()
    changes: dict[str, object] = {f"model.{name}": 0 for name in DISCRIMINATOR_NUMBERS}
    changes |= {"model.discriminator": ""}
    if is_width:
        changes |= {"model.width": int(generator), "model.num_heads": heads(model, generator)}
        if discriminator:
            changes["model.discriminator_width"] = number(discriminator)
            changes["model.discriminator_heads"] = heads(model, discriminator)
    else:
        changes |= {f"model.{name}": 0 for name in Size._fields}
        changes |= {"model.size": generator, "model.discriminator": discriminator}
    kind = "width" if is_width else "size"
    return request.variant(f"{kind}-{value.replace('/', '-D-')}", changes)


def heads(model: GATConfig, width: str) -> int:
    """Heads of the recipe's own width each, as near as can be."""
    return max(1, model.num_heads * number(width) // model.width)


def number(value: str) -> int:
    """A value that is a positive integer; ConfigError if it is not."""
    if not value.isdecimal() or not int(value):
        raise ConfigError(f"`--values` has `{value}`; expected a positive integer")
    return int(value)


def patches(request: Request) -> list[Config]:
    """The recipe with several patch sizes; without values half, once and twice its own."""
    own, side = request.gat().patch_size, read_task(request.variant("")).shape[1]
    fitting = [patch for patch in (own // 2, own, 2 * own) if patch and side % patch == 0]
    values = request.values or tuple(map(str, fitting))
    return [request.variant(f"patch-{v}", {"model.patch_size": number(v)}) for v in values]


def scaling(data: StudyData) -> Findings:
    """How the distance at the end of runs falls with operations: a power law and correlations."""
    runs = data.measured
    distances = [run.final[data.distance] for run in runs]
    training = [run.step * run.entry["operations_per_step"] / GIGA for run in runs]
    forward = [run.entry["generator_forward"] / GIGA for run in runs]
    law = fit_power_law(training, distances)
    correlations = {
        "log10 of a generator pass": correlation([math.log10(x) for x in forward], distances),
        "log10 of training": correlation([math.log10(x) for x in training], distances),
    }
    numbers = {
        "distance": data.distance,
        "power_law": law._asdict() if law else None,
        "interval": INTERVAL,
        "correlation_of_distance_with_operations": correlations,
    }
    sentences = [law_sentence(law, data.distance)]
    for name, value in correlations.items():
        if value is not None:
            sentences.append(f"Correlation of {data.distance} with the {name}: {value:.3f}.")
    plot = curves(data, law)
    return Findings(numbers, sentences, [Section("By operations", [plot])] if plot.items else [])


def law_sentence(law: PowerLaw | None, distance: str) -> str:
    """A fitted law in words, or why there is none."""
    if law is None:
        return "No power law: it takes three runs that ended well, at two costs or more."
    return (
        f"{distance} = {law.a:.3g} C^-{law.b:.3g} with C in training GFLOP; exponent "
        f"{law.low:.3g} to {law.high:.3g} ({INTERVAL}; {law.num_points} runs)."
    )


def curves(data: StudyData, law: PowerLaw | None) -> Gallery:
    """Distance along all runs by operations, both as logarithms, and the fitted law."""
    series, name = [], data.distance
    for run in data.comparison.runs:
        points = [(p.operations, p.values[name]) for p in run.evaluations if name in p.values]
        known = [(math.log10(c), math.log10(d)) for c, d in points if c > 0 and d > 0]
        series += [Series(run.entry["name"], known)] if known else []
    if not series:
        return Gallery([])
    if law:
        ends = [math.log10(run.step * run.entry["operations_per_step"]) for run in data.measured]
        line = [(x, math.log10(law.a) - law.b * (x - 9)) for x in (min(ends), max(ends))]
        series.append(Series("power law", line))
    caption = "Evaluations along the runs, and the law fitted to the last of each."
    return Gallery([line_plot(series, "log10 of operations", f"log10 of {name}", caption)])
