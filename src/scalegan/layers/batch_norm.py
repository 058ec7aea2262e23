"""Batch norm with running or standing statistics (BigGAN, arXiv 1809.11096), over ranks on request.

M is N, or 1 for all samples.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "N C H W"]
Statistics = Float[Tensor, " C"]
MOMENTUM = 0.1


@runtime_checkable
class Ranks(Protocol):
    """The processes that share a batch in equal parts."""

    @property
    def size(self) -> int: ...

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over ranks, which gradients of any order pass."""
        ...


def batch_statistics(x: Maps, ranks: Ranks | None = None) -> tuple[Statistics, Statistics, int]:
    """Mean and biased variance of every channel, and of how many values.

    All batch norms take them from here.

    Args:
        ranks: whose parts of the batch count together; None = this one alone.
    """
    variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
    count = x.numel() // x.shape[1]
    if ranks is None:
        return mean, variance, count
    whole = ranks.mean(mean)  # first, so that no large squares are subtracted
    variance = ranks.mean(variance + (mean - whole).square())
    return whole, variance, count * ranks.size


class BatchNorm(nn.Module):
    """Batch norm whose gain and bias come from outside.

    A training forward uses the batch's statistics and moves the running ones. While `standing` is
    a list, every forward uses the batch's and keeps them there.
    """

    mean: Statistics
    variance: Statistics

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.ranks: Ranks | None = None
        self.standing: list[Float[Tensor, "2 C"]] | None = None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def normalize(self, x: Maps, gain: Float[Tensor, "M C"], bias: Float[Tensor, "M C"]) -> Maps:
        mean, variance = self.statistics(x)
        scale = gain.float() * (variance + self.eps).rsqrt()  # (M, C)
        shift = bias.float() - mean * scale
        return (x * scale[..., None, None] + shift[..., None, None]).to(x.dtype)

    def statistics(self, x: Maps) -> tuple[Statistics, Statistics]:
        """Mean and biased variance to normalize with."""
        if not self.training and self.standing is None:
            return self.mean, self.variance
        mean, variance, count = batch_statistics(x, self.ranks)
        if self.standing is not None:
            self.standing.append(torch.stack([mean, variance]).detach())
        else:
            self.mean.lerp_(mean.detach(), MOMENTUM)
            self.variance.lerp_(variance.detach() * count / (count - 1), MOMENTUM)
        return mean, variance


class PlainNorm(BatchNorm):
    """Batch norm with a learned gain and bias, blind to any condition."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Maps, condition: Float[Tensor, "N B"] | None = None) -> Maps:
        return self.normalize(x, self.gain[None], self.bias[None])


class LibraryNorm(nn.BatchNorm2d):
    """PyTorch's batch norm and its state, which can normalize over the batch of all ranks.

    `nn.SyncBatchNorm` does so on GPUs alone and has no second derivative, which exact R1 needs.
    """

    ranks: Ranks | None = None

    def forward(self, x: Maps) -> Maps:
        if self.ranks is None or not self.training:
            return super().forward(x)
        mean, variance, count = batch_statistics(x, self.ranks)
        buffers, momentum = dict(self.named_buffers()), self.momentum or 0.0
        with torch.no_grad():
            buffers["num_batches_tracked"].add_(1)
            buffers["running_mean"].lerp_(mean, momentum)
            buffers["running_var"].lerp_(variance * count / (count - 1), momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def synchronize(network: nn.Module, ranks: Ranks) -> None:
    """Let every batch norm of a network normalize over the batch of all ranks."""
    for module in network.modules():
        if isinstance(module, BatchNorm | LibraryNorm):
            module.ranks = ranks


@contextmanager
def standing_statistics(network: nn.Module) -> Iterator[None]:
    """Every forward in here counts equally towards the statistics that hold from then on."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.standing = []
    try:
        yield
        for norm in norms:
            mean, variance = torch.stack(norm.standing or []).mean(dim=0)
            norm.mean.copy_(mean)
            norm.variance.copy_(variance)
    finally:
        for norm in norms:
            norm.standing = None
