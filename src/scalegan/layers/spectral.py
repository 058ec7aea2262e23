"""Spectral normalization (arXiv 1802.05957, v1), as BigGAN has it (arXiv 1809.11096, v2).

O rows and A columns of a weight as a matrix, R tracked singular values.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scalegan.layers.transformer import float32_island


class SpectralNorm(nn.Module):
    """Divides a weight, seen as a matrix, by an estimate of its largest singular value.

    A training forward makes a power iteration and keeps it; an evaluation forward makes the same
    one and forgets it. The vectors carry no gradient, the singular value does.

    Args:
        rows: of the matrix.
        eps: least length that a vector is divided by.
        iterations: per training forward.
        num_values: singular values that are tracked; only the largest one divides.
    """

    u: Float[Tensor, "R O"]
    sigma: Float[Tensor, " R"]

    def __init__(self, rows: int, eps: float, iterations: int = 1, num_values: int = 1) -> None:
        super().__init__()
        self.eps, self.iterations = eps, iterations
        self.register_buffer("u", torch.randn(num_values, rows))
        self.register_buffer("sigma", torch.ones(num_values))

    # W / sigma(W) (arXiv 1802.05957, eq. 8)
    def forward(self, weight: Float[Tensor, "O *A"]) -> Float[Tensor, "O *A"]:
        matrix, u = weight.flatten(1), self.u
        with float32_island(weight.device):
            for _ in range(self.iterations if self.training else 1):
                u, sigma = power_iteration(matrix, u, self.eps)
        if self.training:
            self.u.copy_(u)
            self.sigma.copy_(sigma.detach())
        return weight / sigma[0]


# v = W^T u / |W^T u|, u = W v / |W v|, sigma = u^T W v (arXiv 1802.05957, appendix A)
def power_iteration(
    matrix: Float[Tensor, "O A"], u: Float[Tensor, "R O"], eps: float
) -> tuple[Float[Tensor, "R O"], Float[Tensor, " R"]]:
    """Left vectors, each moved once towards its singular vector, and the singular values.

    These are products of the matrix with one vector each, not with R at once: so they are no part
    of what is counted as a cost per image.
    """
    left: list[Tensor] = []
    right: list[Tensor] = []
    sigma = []
    for row in u.unbind():
        across = matrix.detach().mT @ row
        right.append(F.normalize(_without(across, right), dim=0, eps=eps))
        image = matrix @ right[-1]  # the gradient's only way to the matrix
        left.append(F.normalize(_without(image.detach(), left), dim=0, eps=eps))
        sigma.append(left[-1] @ image)
    return torch.stack(left), torch.stack(sigma)


def _without(x: Float[Tensor, " A"], directions: list[Tensor]) -> Float[Tensor, " A"]:
    """x less its parts along unit vectors (Gram and Schmidt)."""
    for direction in directions:
        x = x - (x @ direction) * direction
    return x


Normalizer = Callable[[int], nn.Module]
"""Makes what divides a weight of so many rows: a `SpectralNorm`, or the identity."""


class Conv(nn.Conv2d):
    """Convolution that keeps height and width, its weight normalized."""

    def __init__(
        self, normal: Normalizer, inputs: int, outputs: int, kernel: int, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        self.normal = normal(outputs)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N O H W"]:
        return F.conv2d(x, self.normal(self.weight), self.bias, padding=self.kernel_size[0] // 2)


class Linear(nn.Linear):
    """Affine map, its weight normalized."""

    def __init__(self, normal: Normalizer, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.normal = normal(outputs)

    def forward(self, x: Float[Tensor, "N B"]) -> Float[Tensor, "N O"]:
        return F.linear(x, self.normal(self.weight), self.bias)


class Embedding(nn.Embedding):
    """A vector per class, all of them normalized as one matrix."""

    def __init__(self, normal: Normalizer, num_classes: int, width: int) -> None:
        super().__init__(num_classes, width)
        self.normal = normal(num_classes)

    def forward(self, labels: Int64[Tensor, " N"]) -> Float[Tensor, "N O"]:
        return F.embedding(labels, self.normal(self.weight))


class Table(nn.Embedding):
    """A vector per class, not normalized; its argument is a one-hot class or weights of classes."""

    def forward(self, weights: Float[Tensor, "N B"]) -> Float[Tensor, "N O"]:
        return weights @ self.weight
