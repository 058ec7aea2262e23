"""A recorded case of a reference implementation, and what its names mean."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from scalegan.losses import augment

from .compare import Outputs


@dataclass(frozen=True)
class Case:
    name: str
    config: dict[str, Any]
    tolerance: dict[str, str]
    weights: Outputs
    inputs: Outputs
    outputs: Outputs
    title: str = ""
    """What the JSON calls it."""


def read(path: Path) -> Case:
    """The case of a `NAME.safetensors` and the `NAME.json` beside it.

    Settings stand under `config`, or beside everything else; a tolerance is sentences by name, or
    two numbers for all.
    """
    tensors = load_file(path)
    about = json.loads(path.with_suffix(".json").read_text())
    parts = (under(tensors, part) for part in ("weights.", "in.", "out."))
    tolerance = about.get("tolerance", {})
    if isinstance(tolerance.get("rtol"), float):
        tolerance = {"everything else": f"rtol {tolerance['rtol']}, atol {tolerance['atol']}"}
    config = about.get("config", about)
    return Case(path.stem, config, tolerance, *parts, about.get("case", ""))


def under(tensors: Outputs, prefix: str) -> Outputs:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def coarse_to_fine(inputs: Outputs, name: str) -> Tensor:
    """Draws recorded one by one, the finest level first, as (N, L, C, H, W)."""
    draws = under(inputs, f"{name}.")
    return torch.stack([draws[str(k)] for k in reversed(range(len(draws)))], dim=1)


def draws_of(inputs: Outputs, prefix: str, side: int) -> augment.Draws:
    draws = {name: draw.flatten() for name, draw in under(inputs, prefix).items()}
    return augment.Draws(side, **draws)
