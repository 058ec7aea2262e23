"""What a run or snapshot is, in a few lines: sizes, cost, state of training."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scalegan.errors import CheckpointError
from scalegan.runtime.files import damage, read_json
from scalegan.runtime.log import read_metrics
from scalegan.snapshot import Card, build_discriminator, build_generator, newest, read_card


def describe(path: Path) -> list[str]:
    """Lines about a run or a snapshot folder.

    Raises:
        CheckpointError: if it is neither.
    """
    folder = newest(path)
    card = read_card(folder)
    channels, side, _ = card.shape
    names = ", ".join(card.class_names[:12]) + (", ..." if len(card.class_names) > 12 else "")
    lines = [
        f"{card.name}: {folder}",
        f"  architecture   {card.model}",
        f"  samples        {channels} x {side} x {side}, autoencoder `{card.autoencoder.kind}`",
        f"  classes        {len(card.class_names)}: {names}",
        f"  trained        {card.step:,} steps, {card.images_seen:,} images, seed {card.seed}",
    ]
    for name, cost in costs(card, (folder / "discriminator.safetensors").is_file()).items():
        size = f"{cost.parameters:,} parameters"
        lines.append(f"  {name:14} {size}, {cost.flops / 1e9:.3f} GFLOP per image forward")
    return lines + (_run_lines(path) if (path / "config.toml").is_file() else [])


class Cost(NamedTuple):
    """Of one network: numbers that are trained, and operations of one image's forward pass."""

    parameters: int
    flops: int


def costs(card: Card, has_discriminator: bool) -> dict[str, Cost]:
    """What each network costs, counted on tensors without values."""
    with torch.device("meta"):
        generator = build_generator(card)
        z = torch.empty(1, *generator.z_shape)
        labels = torch.zeros(1, dtype=torch.int64)
        levels = torch.empty(1, generator.num_levels, *card.shape)
        found = {"generator": _cost(generator, z, labels)}
        if has_discriminator:
            found["discriminator"] = _cost(build_discriminator(card), levels, labels)
    return found


def _cost(network: nn.Module, *inputs: torch.Tensor) -> Cost:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.requires_grad_(False)(*inputs)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, counter.get_total_flops())


def _run_lines(run: Path) -> list[str]:
    """Checkpoints and the last numbers of a run."""
    lines = []
    for path in sorted((run / "checkpoints").glob("step-*")):
        state = _state(path)
        lines.append(f"  checkpoint     {path}: {state}")
    metrics = read_metrics(run)
    if metrics:
        last = [f"{k} {v:.3g}" for k, v in metrics[-1].items() if "/" in k and v is not None]
        lines.append(f"  last numbers   step {metrics[-1]['step']:,}: {', '.join(last)}")
    return lines


def _state(checkpoint: Path) -> str:
    problem = damage(checkpoint)
    if problem:
        return f"damaged ({problem})"
    try:
        about = read_json(checkpoint / "state.json")
        return f"step {about['step']:,}, {about['num_ranks']} rank(s), attempt {about['attempt']}"
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"`{checkpoint / 'state.json'}` is not usable: {error}") from None
