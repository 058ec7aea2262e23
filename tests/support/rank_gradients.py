"""Gradients and buffers of all systems' networks on a fixed batch, of which a rank has its part.

As a program, run by tests/end_to_end/test_ranks.py as one of several processes, it writes them into
the folder that it is given.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scalegan.autoencoders.pixels import Identity
from scalegan.config.schema import DataConfig
from scalegan.losses.penalties import exact
from scalegan.models.tables import ARCHITECTURES
from scalegan.runtime.files import save_tensors
from scalegan.runtime.world import World, join, leave
from scalegan.train.build import build_state
from tests.support import systems

COUNT, SIDE, CLASSES = 8, 16, 3
ACROSS = {("gansformer", "discriminator")}
"""Networks that look across the batch of one rank: the deviation within a minibatch."""


def everything(world: World) -> dict[str, Tensor]:
    """By system, network and name: averaged gradients, and buffers after one training forward."""
    found: dict[str, Tensor] = {}
    for name in ARCHITECTURES:
        config = systems.config(name, DataConfig())
        if name == "ladagan":  # with a stage that has batch norms
            model = replace(config.model, encoder_widths=(8, 8))
            config = replace(config, model=model)
        state = build_state(config, world, Identity(1, SIDE), CLASSES)
        rng = torch.Generator().manual_seed(1)
        own = slice(world.rank * COUNT // world.size, (world.rank + 1) * COUNT // world.size)
        z = torch.randn(COUNT, *state.generator.z_shape, generator=rng)[own]
        levels = state.generator.num_levels
        samples = torch.randn(COUNT, levels, 1, SIDE, SIDE, generator=rng)[own].requires_grad_()
        weights = torch.randn(COUNT, 1, SIDE, SIDE, generator=rng)[own]
        labels = (torch.arange(COUNT) % CLASSES)[own]
        if name == "gansformer":
            state.generator.eval()  # in training it draws noise and dropout
        fake = state.generator(z, labels)
        note(found, f"{name}.generator", state.generator, (fake[:, -1] * weights).mean(), world)
        if (name, "discriminator") not in ACROSS:
            discriminator = state.discriminator
            logits = discriminator(samples, labels).logits
            # The second derivative passes the statistics of all ranks; GAT's fused attention has
            # none.
            penalty = exact(logits, samples).mean() if name in ("ladagan", "biggan") else 0.0
            loss = nn.functional.softplus(logits).mean() + 0.1 * penalty
            note(found, f"{name}.discriminator", discriminator, loss, world)
    return found


def note(found: dict[str, Tensor], prefix: str, network: Any, loss: Tensor, world: World) -> None:
    loss.backward()
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    world.mean_(gradients.values())
    for name, value in (gradients | dict(network.named_buffers())).items():
        found[f"{prefix}.{name}"] = value.detach().float().clone()


def main(arguments: list[str]) -> None:
    world = join("cpu")
    save_tensors(everything(world), Path(arguments[0]) / f"{world.rank}.safetensors")
    leave()
