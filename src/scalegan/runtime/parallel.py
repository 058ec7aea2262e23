"""How networks are run, decided from outside: blocks recomputed or compiled, weights sharded.

A network shows its repeated part as `blocks` and knows nothing of this. It stays the same object
with the same names: nothing is wrapped.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from scalegan.runtime.world import World
from scalegan.settings import TrainConfig

HALVES = ("map", "synthesize")
"""Methods of a generator that are called instead of its forward."""
COMPILED_FORMS = 32
"""Forms of a block, by batch size, gradients and tokens, beyond which PyTorch stops compiling."""


def prepare(network: nn.Module, config: TrainConfig, world: World, is_trained: bool = True) -> None:
    """Apply the settings to one network, in place.

    Args:
        is_trained: False for the moving average, which is sharded alone.
    """
    if is_trained:
        recompute(network, config.recompute)
        if config.compile:
            compile_blocks(network)
    if is_sharded(config, world):
        shard(network, world)


def is_sharded(config: TrainConfig, world: World) -> bool:
    """One process has nothing to share."""
    return config.parallel == "shard" and world.size > 1


def blocks_of(network: nn.Module) -> Iterable[nn.Module]:
    blocks: nn.ModuleList = network.blocks  # type: ignore[assignment]
    return blocks


def recompute(network: nn.Module, mode: str) -> None:
    """Let blocks keep less for the backward pass and compute the rest again there.

    Args:
        mode: "none"; "selective", which keeps a block's input and its products; "full", which
            keeps its input alone.
    """
    if mode == "none":
        return
    selective = {"context_fn": partial(create_selective_checkpoint_contexts, _keep_products)}
    options = selective if mode == "selective" else {}
    for block in blocks_of(network):
        block.forward = partial(_again, block.forward, options)  # type: ignore[method-assign]


def _again(forward: Callable[..., Tensor], options: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    # Blocks draw nothing, so no state of a random generator is kept.
    return checkpoint(
        forward, *args, use_reentrant=False, preserve_rng_state=False, **options, **kwargs
    )


def _products() -> set[Any]:
    """Operators whose results are dear: matrix products and attention."""
    aten = torch.ops.aten
    found = {
        aten.mm.default,
        aten.addmm.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        found.add(torch.ops.mkldnn._linear_pointwise.default)
    return found


def _keep_products(_: Any, operator: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    is_product = operator in _products()
    return CheckpointPolicy.MUST_SAVE if is_product else CheckpointPolicy.PREFER_RECOMPUTE


def compile_blocks(network: nn.Module) -> None:
    """Compile each block; blocks of one kind share what is compiled."""
    # With and without gradients, features and penalties, a block has more forms than PyTorch's 8.
    torch._dynamo.config.recompile_limit = COMPILED_FORMS
    for block in blocks_of(network):
        block.compile(dynamic=False)


def shard(network: nn.Module, world: World) -> None:
    """Spread parameters over all ranks (FSDP2), block by block; gathered where they are used."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in blocks_of(network):
        fully_shard(block, mesh=mesh)
    # Also what is not in a block is given back after use: a forward pass without a backward pass
    # would else leave old values behind.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    for name in HALVES:
        if hasattr(network, name):
            register_fsdp_forward_method(network, name)


def mold_of(network: nn.Module) -> nn.Module:
    """The form of a network without its values, to be made before it is sharded."""
    return copy.deepcopy(network).to("meta")


def whole(network: nn.Module, mold: nn.Module) -> nn.Module:
    """A plain copy of a sharded network, in eval mode; every rank must call it.

    Args:
        mold: what `mold_of` made of it.
    """
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=False)
    values = get_model_state_dict(network, options=options)
    device = next(network.buffers()).device
    plain = copy.deepcopy(mold).to_empty(device=device).requires_grad_(False).eval()
    plain.load_state_dict(values)
    buffers = dict(network.named_buffers())  # some are in no state dict
    for name, buffer in plain.named_buffers():
        buffer.copy_(buffers[name])
    return plain


def full(tensor: Tensor) -> Tensor:
    """A tensor as a whole; of a sharded one every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor that every rank holds, sharded as the target is."""
    if not isinstance(target, DTensor):
        return value
    value = value.to(target.device)
    return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)


def fill(network: nn.Module, values: dict[str, Tensor]) -> None:
    """Load whole tensors by name, sharded as the network is."""
    own = network.state_dict()
    network.load_state_dict({name: like(value, own[name]) for name, value in values.items()})


def told(message: list[Any], world: World) -> Any:
    """What the first rank put into the list, on all ranks."""
    if world.size > 1:
        dist.broadcast_object_list(message, src=0)
    return message[0]
