"""Tables from a reference's names to ours, and what fills a network of ours by one."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from scalegan.errors import CheckpointError

# A regular expression for a whole reference key, and ours; None = a tensor we have no use for.
Names = list[tuple[str, str | None]]
Network = TypeVar("Network", bound=nn.Module)


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
    constants: Mapping[str, float] | None = None,
) -> Network:
    """Make a network and give it a reference's weights.

    Args:
        make: builds the network of the sizes that the weights should have.
        weights: every tensor of the network, under the reference's keys.
        title: what the tensors belong to, for messages.
        constants: tensors of ours that the reference lacks, and what they are filled with.

    Returns:
        The network, in evaluation mode.

    Raises:
        CheckpointError: if a tensor is missing, unknown, of the wrong shape or no number.
    """
    with torch.device("meta"):  # a config that does not fit its weights allocates nothing
        expected = make().state_dict()
    found, keys = {}, {}
    for key, value in weights.items():
        name = rename(names, key, title)
        if name is None:
            continue
        if name not in expected:
            raise CheckpointError(f"`{key}` does not belong to a {title} of this config")
        found[name], keys[name] = value, key
    for name, number in (constants or {}).items():
        found[name] = torch.full(expected[name].shape, number)
    for name, ours in expected.items():
        if name not in found:
            raise CheckpointError(f"no tensor of the weights becomes `{name}` of the {title}")
        if found[name].shape != ours.shape:
            raise CheckpointError(
                f"`{keys[name]}` has shape {tuple(found[name].shape)} but this config asks for "
                f"{tuple(ours.shape)}"
            )
        if found[name].is_floating_point() != ours.is_floating_point():
            raise CheckpointError(f"`{keys[name]}` is {found[name].dtype}, expected {ours.dtype}")
    network = make()
    network.load_state_dict(found)
    return network.eval()
