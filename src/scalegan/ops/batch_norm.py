"""Batch norm with running or standing statistics (BigGAN, arXiv 1809.11096).

M is N, or 1 for all samples.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "N C H W"]
Statistics = Float[Tensor, " C"]
MOMENTUM = 0.1


def batch_statistics(x: Maps) -> tuple[Statistics, Statistics, int]:
    """Mean and biased variance of every channel, and of how many values.

    All batch norms take them from here; what synchronises ranks belongs here.
    """
    variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
    return mean, variance, x.numel() // x.shape[1]


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
        self.standing: list[Float[Tensor, "2 C"]] | None = None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def normalize(self, x: Maps, gain: Float[Tensor, "M C"], bias: Float[Tensor, "M C"]) -> Maps:
        mean, variance = self.statistics(x)
        scale = gain.float() * (variance + self.eps).rsqrt()  # (M, C)
        shift = bias.float() - mean * scale
        return (x * scale[..., None, None] + shift[..., None, None]).to(x.dtype)

    def statistics(self, x: Maps) -> tuple[Statistics, Statistics]:
        """Mean and biased variance to normalise with."""
        if not self.training and self.standing is None:
            return self.mean, self.variance
        mean, variance, count = batch_statistics(x)
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
