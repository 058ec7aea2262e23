"""How often the alarms are right: runs that are made to collapse, and runs that are left alone.

    python -m benchmarks.health_alarms --runs 20 --first-seed 100 --out benchmarks/results/FILE.json

Small runs on the digits. A collapse is forced by a term in the generator's loss: every other one
pulls the images of a batch together, every other one those of a class alone. The limits in
train/health.py were set on seeds below 100.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from scalegan.config import reading as configs
from scalegan.interfaces import Terms
from scalegan.runtime.world import World
from scalegan.train.build import build, build_loader
from scalegan.train.health import Health, build_probe
from scalegan.train.state import TrainState
from scalegan.train.step import train_step

STEPS, EVERY, FORCED_FROM = 200, 4, 100


def settings(seed: int) -> configs.Config:
    digits = configs.read("digits")
    model = replace(digits.model, width=16, num_heads=2, label_width=32)
    return configs.resolve(
        replace(
            digits,
            seed=seed,
            model=model,
            data=replace(digits.data, held_out=200),
            train=replace(digits.train, batch_size=16),
        )
    )


def pull(state: TrainState, weight: float, within_classes: bool) -> None:
    """Add a term to the generator's loss that draws images together."""
    terms_of = state.objective.generator_terms

    def pulled(generator, discriminator, real, fake, batch, step):
        terms = terms_of(generator, discriminator, real, fake, batch, step)
        center = fake.mean(dim=0, keepdim=True).expand_as(fake)
        if within_classes:
            same = (batch.labels[:, None] == batch.labels).float()
            center = ((same / same.sum(1, keepdim=True)) @ fake.flatten(1)).view_as(fake)
        together = (fake - center).square().flatten(1).mean(1)
        return Terms(terms.losses | {"g/pull": weight * together}, terms.watched)

    state.objective.generator_terms = pulled


def to_one_image(state: TrainState) -> None:
    pull(state, 100.0, within_classes=False)


def to_one_image_per_class(state: TrainState) -> None:
    pull(state, 200.0, within_classes=True)


def run(seed: int, force=None) -> dict:
    """One run: its alarms by step, and the diversity along it."""
    built = build(settings(seed), World(0, 1, torch.device("cpu")))
    state, health = built.state, Health()
    probe = build_probe(state, built.rows, built.held_out, built.images.class_names)
    alarms, lines = [], []
    with build_loader(built) as loader:
        while state.step < STEPS:
            if force and state.step == FORCED_FROM:
                force(state)
            report = train_step(state, [loader.share(0, state.images_seen)])
            if state.step % EVERY == 0:
                line = {name: value.item() for name, value in report.items()} | probe(state)
                lines.append(line)
                alarms += [(state.step, name) for name in health.read(line)]
    diversity = [round(line["health/diversity"], 4) for line in lines]
    return {"seed": seed, "alarms": alarms, "diversity": diversity, "lines": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--lines", type=Path, help="also keep every line, to set limits by")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.first_seed, options.first_seed + options.runs)
    forces = [to_one_image, to_one_image_per_class]
    found = {"forced": [], "healthy": []}
    for i, seed in enumerate(seeds):
        force = forces[i % 2]
        found["forced"].append({"by": force.__name__, **run(seed, force)})
        found["healthy"].append(run(seed))
        for name, runs in found.items():
            print(seed, name, runs[-1].get("by", ""), runs[-1]["alarms"], flush=True)
        if options.lines:
            options.lines.write_text(json.dumps(found))
    hits = sum(
        any(name == "collapse" and step > FORCED_FROM for step, name in one["alarms"])
        for one in found["forced"]
    )
    false = sum(bool(one["alarms"]) for one in found["healthy"])
    print(f"forced collapse: {hits} of {len(seeds)} with an alarm; healthy: {false} with one")
    if options.out:
        for one in found["forced"] + found["healthy"]:
            del one["lines"]
        about = {"steps": STEPS, "every": EVERY, "forced_from": FORCED_FROM}
        about |= {"torch": torch.__version__, "hits": hits, "false": false}
        options.out.write_text(json.dumps({**about, **found}, indent=1))


if __name__ == "__main__":
    main()
