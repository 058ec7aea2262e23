"""Affine maps of tokens, through the faster of two libraries where a CPU has both.

PyTorch makes float32 products on x86 with MKL, which is slow on some of AMD's processors; oneDNN,
which PyTorch carries too, is not. There is no public switch: `torch.backends.mkldnn.matmul.
fp32_precision` and `torch.set_float32_matmul_precision` lead to oneDNN only with fewer bits, and
1x1 convolutions, which do go through it, are slower. So a private operator is used, checked before
and replaced where it is not there. A inputs, B outputs, M rows.
"""

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST = 2**16
"""Weights below which the way to the operator costs more than the operator saves."""


class Linear(nn.Linear):
    """`nn.Linear` with the same values, by `product` where that is faster.

    Attributes:
        is_by_onednn: chosen by the processor and the size alone: a choice by the clock could
            differ between a run and its continuation, and so would their last bits.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.is_by_onednn = inputs * outputs >= SMALLEST and prefers_onednn()

    def forward(self, x: Float[Tensor, "... A"]) -> Float[Tensor, "... B"]:
        # Reduced precision goes through oneDNN by itself.
        if self.is_by_onednn and _is_float32_on_cpu(x):
            return product(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


def affine(layer: nn.Linear, x: Float[Tensor, "... A"], rows: slice) -> Float[Tensor, "... B"]:
    """Some rows of a layer alone: the outputs `rows` of it."""
    weight, bias = layer.weight[rows], layer.bias[rows]
    if getattr(layer, "is_by_onednn", False) and _is_float32_on_cpu(x):
        return product(x, weight, bias)
    return F.linear(x, weight, bias)


def _is_float32_on_cpu(x: Tensor) -> bool:
    is_cpu = x.device.type == "cpu" and x.dtype == torch.float32
    return is_cpu and not torch.is_autocast_enabled("cpu")


@torch.library.custom_op("scalegan::product", mutates_args=())
def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` through oneDNN, forward and backward.

    An operator of its own, so that `torch.compile` and recomputation see one thing.

    Args:
        x: (..., A), float32 on a CPU.
        weight: (B, A).
        bias: (B,).
    """
    return _through_onednn(x, weight, bias)


@product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    # By `product` itself, so that gradients have gradients.
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad
    flat = gradient.flatten(0, -2)  # (M, B)
    of_x = product(gradient, weight.mT, None) if needs_x else None
    of_weight = None
    if needs_weight:
        rows = x.flatten(0, -2)  # (M, A)
        # The left factor is laid out anew, so it should be the narrower one.
        is_wide = flat.shape[1] > rows.shape[1]
        left, right = (rows.mT, flat.mT) if is_wide else (flat.mT, rows.mT)
        of_weight = product(left, right, None)
        of_weight = of_weight.mT if is_wide else of_weight
    return of_x, of_weight, flat.sum(dim=0) if needs_bias else None


product.register_autograd(_backward, setup_context=_setup)


def _through_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


@cache
def prefers_onednn() -> bool:
    """Whether this is an AMD processor with a PyTorch whose private operator does what it did."""
    if not torch.backends.mkldnn.is_available() or "AuthenticAMD" not in _processor():
        return False
    x = torch.arange(12.0).view(2, 2, 3)
    weight, bias = torch.arange(6.0).view(2, 3), torch.ones(2)
    try:
        return torch.equal(_through_onednn(x, weight, bias), F.linear(x, weight, bias))
    except (AttributeError, RuntimeError, TypeError):
        return False


def _processor() -> str:
    """What the processor says of itself, on Linux; elsewhere what Python knows."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:500]
    except OSError:
        return platform.processor()
