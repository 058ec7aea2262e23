"""Tables from a reference's names to ours, and what fills a network of ours by one."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from scalegan.errors import CheckpointError
from scalegan.runtime.weights import Network, build_exactly

# A regular expression for a whole reference key, and ours; None = a tensor we have no use for.
Names = list[tuple[str, str | None]]
Weights = dict[str, Tensor]


class Sizes(NamedTuple):
    """What the shapes and names of foreign tensors tell of their networks."""

    model: dict[str, Any]
    """Fields of our config of the architecture."""
    shape: tuple[int, int, int]
    """(C, H, W) of a sample."""
    num_classes: int
    features: int = 0
    """Feature width of the discriminator's projector; 0 = none."""
    missing: tuple[str, ...] = ()
    """Fields that decide outputs, cannot be seen in tensors and must be stated."""
    assumed: tuple[str, ...] = ()
    """Fields that cannot be seen in tensors and have their defaults where they are not stated."""


def indices(weights: Mapping[str, Any], pattern: str) -> list[int]:
    """The numbers that a pattern's first group matches in any key, in order."""
    return sorted({int(found[1]) for key in weights if (found := re.match(pattern, key))})


def rename(names: Names, key: str, title: str) -> str | None:
    """Our name of a reference's tensor; None for one that we have no use for.

    Args:
        title: what the tensors belong to, for messages: "ladagan generator".

    Raises:
        CheckpointError: if the reference has no such tensor.
    """
    for pattern, ours in names:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(ours) if ours else None
    raise CheckpointError(f"`{key}` is not the name of a tensor of a {title}")


def fill(
    make: Callable[[], Network],
    names: Names,
    weights: dict[str, Tensor],
    title: str,
    extra: Mapping[str, Tensor] | None = None,
) -> Network:
    """Make a network and give it a reference's weights.

    Args:
        make: builds the network of the sizes that the weights should have.
        weights: every tensor of the network, under the reference's keys.
        title: what the tensors belong to, for messages.
        extra: tensors of ours that the reference lacks, under our names.

    Returns:
        The network, in evaluation mode.

    Raises:
        CheckpointError: if a tensor is missing, unknown, of the wrong shape or kind.
    """
    found, keys = dict(extra or {}), {}
    for key, value in weights.items():
        name = rename(names, key, title)
        if name is not None:
            found[name], keys[name] = value, key
    return build_exactly(make, found, f"the {title}", keys)
