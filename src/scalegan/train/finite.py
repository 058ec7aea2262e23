"""Whether all values of a turn are finite, and which tensor is the first that is not."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from scalegan.runtime.world import World


def largest(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """The largest magnitude in some tensors, as a scalar; not finite if any value is not."""
    floats = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    if not floats:
        return torch.zeros((), device=device)
    return torch.stack(torch._foreach_norm(floats, float("inf"))).max().float()


def is_sound(values: Sequence[Tensor], wish: Tensor) -> tuple[bool, bool]:
    """Whether all scalars are finite, and whether a wish was raised: one wait for the device."""
    finite = torch.stack(list(values)).isfinite().all()
    first, second = torch.stack([finite, wish > 0]).tolist()
    return first, second


def name_bad(suspects: Iterable[tuple[str, Tensor]], world: World) -> str:
    """The first suspect that is not finite on any rank, by name.

    Args:
        suspects: of the same names, in the same order, on all ranks.
    """
    names, places = [], []
    for name, value in suspects:
        names.append(name)
        if value.is_floating_point() and not value.isfinite().all():
            places.append(len(names) - 1)
    first = torch.tensor([places[0] if places else len(names)], device=world.device)
    found = world.gather(first)
    at, rank = int(found.min()), int(found.argmin())
    if at == len(names):
        return "norm of the gradients"  # each is finite, the sum of their squares is not
    # What was averaged is bad everywhere; what is a rank's own says where it began.
    return f"{names[at]}, on rank {rank}" if at < int(found.max()) else names[at]
