"""How networks are run, decided from outside: blocks recomputed or compiled, weights sharded.

A network shows its repeated part as `blocks` and knows nothing of this. It stays the same object
with the same names: nothing is wrapped.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from scalegan.runtime.sharding import blocks_of

COMPILED_FORMS = 32
"""Forms of a block, by batch size, gradients and tokens, beyond which PyTorch stops compiling."""


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
        block.forward = partial(_again, block.forward, options)


def keeps_casts(mode: str) -> bool:
    """Whether autocast may remember 16-bit copies of weights from one call of a block to the next.

    Selective recomputation counts operators, and there would be fewer in the second call.
    """
    return mode != "selective"


def _again(
    forward: Callable[..., Tensor], options: dict[str, Any], *args: Any, **kwargs: Any
) -> Any:
    # Blocks draw nothing, so no state of a random generator is saved.
    return checkpoint(
        forward, *args, use_reentrant=False, preserve_rng_state=False, **options, **kwargs
    )


def _products() -> set[Any]:
    """Operators whose results are dear: matrix products and attention."""
    aten = torch.ops.aten
    return {
        aten.mm.default,
        aten.addmm.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
    }


def _keep_products(_: Any, operator: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    is_product = operator in _products()
    return CheckpointPolicy.MUST_SAVE if is_product else CheckpointPolicy.PREFER_RECOMPUTE


def compile_blocks(network: nn.Module) -> None:
    """Compile each block; blocks of one kind share what is compiled."""
    # With and without gradients, features and penalties, a block has more forms than PyTorch's 8.
    torch._dynamo.config.recompile_limit = COMPILED_FORMS
    for block in blocks_of(network):
        block.compile(dynamic=False)
