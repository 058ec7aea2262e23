"""Weights come in by one door: a network is filled with exactly the tensors it has, or refused."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from scalegan.errors import CheckpointError
from scalegan.runtime.files import load_tensors
from scalegan.runtime.sharding import like

Network = TypeVar("Network", bound=nn.Module)
Shapes = Mapping[str, tuple[int, ...]]


def load_exactly(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    what: str,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Fill a network with tensors by name, no one too few and no one too many.

    Args:
        network: plain, sharded or on the meta device, where it takes the tensors themselves;
            nothing of it is changed where they are refused.
        tensors: whole ones, of any float type where the network's are floats.
        what: what they are, for messages: "`runs/a/generator.safetensors`", "a gat generator".
        keys: what the file calls a tensor, where that is not the network's name for it.

    Raises:
        CheckpointError: if a tensor is missing, unexpected, misshapen or of another kind of number.
    """
    own = network.state_dict()
    refuse_others(own, tensors, what, keys)
    values = {name: like(value, own[name]) for name, value in tensors.items()}
    is_empty = any(tensor.is_meta for tensor in own.values())
    # Strictness is above; PyTorch's would stumble over counts that it adds to batch norms itself.
    network.load_state_dict(values, strict=False, assign=is_empty)


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file by `load_exactly`.

    Raises:
        CheckpointError: as `load_exactly`, or if the file is not safetensors.
        FileNotFoundError: if it is not there.
    """
    load_exactly(network, load_tensors(path), f"`{path}`")


def build_exactly(
    make: Callable[[], Network],
    tensors: Mapping[str, Tensor],
    what: str,
    keys: Mapping[str, str] | None = None,
) -> Network:
    """Build a network and `load_exactly`; one that does not fit its tensors allocates nothing.

    Returns:
        The network, in evaluation mode.

    Raises:
        CheckpointError: as `load_exactly`.
    """
    with torch.device("meta"):
        expected = make().state_dict()
    refuse_others(expected, tensors, what, keys)
    network = make()
    load_exactly(network, tensors, what, keys)
    return network.eval()


def refuse_others(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    what: str,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Raise CheckpointError for the first tensor that is not what a network has of its name."""
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    refuse_other_shapes(what, shapes, wanted, keys)
    for name, tensor in expected.items():
        if tensor.is_floating_point() != found[name].is_floating_point():
            raise CheckpointError(
                f"{what}: `{(keys or {}).get(name, name)}` is {found[name].dtype}; "
                f"expected {tensor.dtype}"
            )


def refuse_other_shapes(
    what: str, found: Shapes, expected: Shapes, keys: Mapping[str, str] | None = None
) -> None:
    """Raise CheckpointError for the first tensor that is missing, unexpected or misshapen."""
    names = expected.keys() | found.keys()
    faults = [name for name in names if found.get(name) != expected.get(name)]
    if faults:  # misshapen ones say most, then unexpected ones
        name = min(faults, key=lambda name: (name not in found, name not in expected, name))
        raise CheckpointError(
            f"{what} has {found.get(name, 'no tensor')} for `{(keys or {}).get(name, name)}`; "
            f"expected {expected.get(name, 'none')}"
        )


def digest_of_weights(
    tensors: Mapping[str, Tensor],
    heading: Callable[[str, tuple[int, ...]], str] = lambda name, shape: f"{name} {shape}",
) -> str:
    """SHA-256 over names, shapes and values, in hex: the same however files are cut or named.

    Args:
        tensors: on any device; their bytes count, so that another type gives another digest.
        heading: what stands before a tensor's bytes, by its name and shape.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(heading(name, tuple(tensor.shape)).encode())
        plain = tensor.detach().cpu().contiguous()
        total.update(plain.view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
