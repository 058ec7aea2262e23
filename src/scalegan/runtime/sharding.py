"""Weights of networks sharded over ranks (FSDP2), and back to whole ones.

What PyTorch has for this takes seconds to import, so that is done where it is used.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scalegan.runtime.files import atomic_folder
from scalegan.runtime.world import World

Network = TypeVar("Network", bound=nn.Module)

HALVES = ("map", "synthesize")
"""Methods of a generator that are called instead of its forward."""


def blocks_of(network: nn.Module) -> Iterable[nn.Module]:
    blocks: nn.ModuleList = network.blocks  # type: ignore[assignment]
    return blocks


def shard(network: nn.Module, world: World) -> None:
    """Spread parameters over all ranks, block by block; they are gathered where they are used."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # Nothing is done in place to what a network returns.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in blocks_of(network):
        fully_shard(block, mesh=mesh)
    # Also what is not in a block is given back after use: a forward pass without a backward pass
    # would else leave old values behind.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    for name in HALVES:
        if hasattr(network, name):
            register_fsdp_forward_method(network, name)


def whole_form(network: Network) -> Network:
    """A network on the meta device, to be made before it is sharded: all of it but its values."""
    return copy.deepcopy(network).to("meta")


@torch.no_grad()
def whole(network: Network, form: Network) -> Network:
    """A plain copy of a sharded network, in eval mode; every rank must call it.

    Args:
        form: what `whole_form` made of it.
    """
    device = next(network.buffers()).device
    plain = copy.deepcopy(form).to_empty(device=device).requires_grad_(False).eval()
    # Buffers are not sharded, and some are in no state dict.
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, value in [*plain.named_parameters(), *plain.named_buffers()]:
        value.copy_(full(own[name]))
    return plain


def is_part(tensor: Tensor) -> bool:
    """Whether this is a sharded tensor (PyTorch's DTensor)."""
    return hasattr(tensor, "full_tensor")


def full(tensor: Tensor) -> Tensor:
    """A tensor as a whole; of a sharded one every rank must ask."""
    result: Tensor = tensor.full_tensor() if is_part(tensor) else tensor  # type: ignore[attr-defined]
    return result


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    result: Tensor = tensor.to_local() if is_part(tensor) else tensor  # type: ignore[attr-defined]
    return result


def like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor that every rank holds, sharded as the target is."""
    if not is_part(target):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = target.device_mesh, target.placements  # type: ignore[attr-defined]
    return distribute_tensor(value.to(target.device), mesh, placements, src_data_rank=None)


@contextmanager
def shared_folder(path: Path, world: World) -> Iterator[Path]:
    """`atomic_folder` that all ranks fill together; it gets its name when all are done."""
    with ExitStack() as stack:
        draft: list[Any] = [None]
        if world.is_first:
            draft = [stack.enter_context(atomic_folder(path))]
        if world.size > 1:
            dist.broadcast_object_list(draft, src=0)
        yield draft[0]
        world.wait()
    world.wait()


def save_parts(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write what all ranks hold together, each its part, as safetensors; every rank must call it.

    PyTorch's other format for this holds pickles.
    """
    import torch.distributed.checkpoint as dcp

    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    dcp.save(dict(tensors), storage_writer=writer)


def part_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and whole shapes of what `save_parts` wrote."""
    import torch.distributed.checkpoint as dcp

    found = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: tuple(about.size) for name, about in found.items()}  # type: ignore[union-attr]


def load_parts(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Read into tensors in place, whole or sharded, for any number of ranks."""
    import torch.distributed.checkpoint as dcp

    reader = dcp.HuggingFaceStorageReader(str(folder))
    with warnings.catch_warnings():  # one process alone is what is meant
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp.load(dict(tensors), storage_reader=reader, no_dist=not dist.is_initialized())
