"""The width-aware learning rate against one rate for all widths: a probe of steps, then runs.

Source: GAT (arXiv 2509.24935), section on the width-aware learning rate: what one step of Adam
changes in a network's output grows with its width, so rate(width) = rate * base_width / width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scalegan.config.schema import Config
from scalegan.errors import ConfigError
from scalegan.inference.sampling import noise_for
from scalegan.reports.page import Figure, Gallery, Plot, Section, Table, Text
from scalegan.reports.plots import Series, line_plot
from scalegan.runtime.world import join
from scalegan.studies.fit import LEVEL, fit_line
from scalegan.studies.study import Findings, Request, StudyData
from scalegan.studies.sweeps import heads, number
from scalegan.train.build import build, build_loader
from scalegan.train.optim import learning_rate
from scalegan.train.step import train_step

RULE, ONE_RATE = "rule", "one-rate"
PROBED = (1, 2, 4, 8, 16, 32)
"""Steps whose effect is measured; those between are made too."""
OUTPUTS = ("samples", "logits")
NUM_PROBED = 32
"""Samples that the effect is measured on."""


def rates(request: Request) -> list[Config]:
    """Several widths, each by the rule and with the rate that the recipe's own width has."""
    model, optim = request.gat(), request.variant("").optim
    if not optim.base_width:
        raise ConfigError(
            "`optim.base_width` is 0, which is one rate for all widths",
            "state it: this study compares both ways",
        )
    widths = request.values or tuple(str(width) for width in (model.width // 2, 2 * model.width))
    own = optim.base_width / model.width
    one_rate = {
        "optim.base_width": 0,
        "optim.learning_rate": optim.learning_rate * own,
        "optim.discriminator_learning_rate": optim.discriminator_learning_rate * own,
    }
    configs = []
    for width in sorted({number(width) for width in widths} | {model.width}):
        changes = {"model.width": width, "model.num_heads": heads(model, str(width))}
        configs.append(request.variant(f"width-{width}-{RULE}", changes))
        if width != model.width:  # there both are one
            configs.append(request.variant(f"width-{width}-{ONE_RATE}", changes | one_rate))
    return configs


def probe(configs: Sequence[Config], device: str) -> list[dict[str, Any]]:
    """How far single steps move the generator's samples and the discriminator's logits."""
    return [
        {
            "variant": config.name,
            "width": config.model.width_of("generator"),
            "way": ONE_RATE if not config.optim.base_width else RULE,
            "learning_rate": learning_rate("generator", config),
            "steps": probe_steps(config, device),
        }
        for config in configs
    ]


def probe_steps(config: Config, device: str) -> list[dict[str, Any]]:
    """Train a few steps; of some, the root mean square of what they change; None: not finite."""
    evaluate, every = replace(config.evaluate, num_images=0), replace(config.every, evaluate="")
    built = build(replace(config, evaluate=evaluate, every=every), join(device))
    state, generator = built.state, built.state.generator
    count = min(NUM_PROBED, config.train.batch_size)
    z = noise_for(range(count), generator.z_shape).to(state.world.device)
    batch_size, per_step = config.train.batch_size, config.images_per_step
    found = []
    with build_loader(built) as loader:
        batch = loader.share(0, 0)[0]
        labels = batch.labels[:count]
        z = z[: len(labels)]
        real = state.autoencoder.sample(batch.stored[:count])[:, None]
        levels = real.expand(-1, generator.num_levels, -1, -1, -1)

        def samples() -> Tensor:
            return generator.synthesize(generator.map(z, labels))[:, -1]

        def logits() -> Tensor:
            return state.discriminator(levels, labels).logits

        for step in range(1, PROBED[-1] + 1):
            first = (step - 1) * per_step
            shares = [loader.share(0, at) for at in range(first, first + per_step, batch_size)]
            if step in PROBED:
                moved = changes_by(partial(train_step, state, shares), samples, logits)
                if not state.is_finite:  # such a step moves nothing
                    moved = [None, None]
                found.append({"step": step, "samples": moved[0], "logits": moved[1]})
            else:
                train_step(state, shares)
    return found


def changes_by(step: Callable[[], object], *outputs: Callable[[], Tensor]) -> list[float | None]:
    """Root mean squares of what a step changes in some outputs; None where they are not finite."""
    with torch.no_grad():
        before = [output().clone() for output in outputs]
    step()
    with torch.no_grad():
        moved = [output() - old for output, old in zip(outputs, before, strict=True)]
    sizes = [change.double().square().mean().sqrt().item() for change in moved]
    return [size if math.isfinite(size) else None for size in sizes]


def stability(data: StudyData) -> Findings:
    """How the change per step grows with width, and which runs stayed stable."""
    exponents = [
        {"way": way, "step": step, "of": of, **exponent(data.probe, way, step, of)}
        for of in OUTPUTS
        for way in (RULE, ONE_RATE)
        for step in PROBED
    ]
    sentences = [
        f"One step changes {found['of']} by width^{found['exponent']:.2f} "
        f"({found['low']:.2f} to {found['high']:.2f}) at step {found['step']}, {found['way']}."
        for found in exponents
        if found["step"] in (PROBED[0], PROBED[-1]) and found["exponent"] is not None
    ]
    failed = [run for run in data.comparison.runs if run.status == "failed"]
    sentences += [f"{run.folder.name} did not stay stable: {run.reason}." for run in failed]
    if not failed:
        sentences.append("All runs reached their end; the table of metrics shows how well.")
    numbers = {
        "probe": data.probe,
        "exponents": exponents,
        "interval": f"{LEVEL:.0%} t interval of the least-squares slope, a point per width",
        "failed": [run.folder.name for run in failed],
    }
    return Findings(numbers, sentences, [probe_section(data.probe)])


def exponent(probed: list[dict[str, Any]], way: str, step: int, of: str) -> dict[str, Any]:
    """Slope of the logarithm of the change over that of the width, at one step.

    The recipe's own width, where both ways are one, belongs to both.
    """
    both = {entry["width"] for entry in probed if entry["way"] == ONE_RATE}
    points = {
        math.log(entry["width"]): entry["steps"][PROBED.index(step)][of]
        for entry in probed
        if entry["way"] == way or entry["width"] not in both
    }
    known = {width: math.log(moved) for width, moved in points.items() if moved}
    line = fit_line(list(known), list(known.values()))
    fitted = (line.slope, line.low, line.high) if line else (None, None, None)
    return dict(zip(("exponent", "low", "high"), fitted, strict=True))


def probe_section(probed: list[dict[str, Any]]) -> Section:
    """What single steps change, as plots and as a table."""
    plots: list[Figure | Plot] = []
    for of in OUTPUTS:
        series = []
        for entry in probed:
            points = [(float(s["step"]), s[of]) for s in entry["steps"] if s[of]]
            series += [Series(entry["variant"], points)] if points else []
        if series:
            caption = f"What one step changes in {of}, root mean square."
            plots.append(line_plot(series, "step", f"change of {of}", caption))
    rows = []
    for entry in probed:
        moved = [s[of] for of in OUTPUTS for s in entry["steps"]]
        cells = ["-" if value is None else f"{value:.3g}" for value in moved]
        rows.append([entry["variant"], f"{entry['learning_rate']:.3g}", *cells])
    head = ["variant", "rate", *(f"{of}, step {step}" for of in OUTPUTS for step in PROBED)]
    text = (
        f"The recipe is trained for {PROBED[-1]} steps at every width. Samples are of fixed noise; "
        "logits are of real samples without augmentation and noise. A dash: not finite."
    )
    return Section("What one step changes", [Text(text), Gallery(plots), Table(head, rows)])
