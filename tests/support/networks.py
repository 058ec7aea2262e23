"""Networks so simple that what a loss makes of them is known by hand."""

import torch
from torch import Tensor, nn

from scalegan.interfaces import Discriminator, DiscriminatorOutput, Generator


class Recorder(Discriminator):
    """A discriminator that records its inputs; its logit is the mean of the finest level."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.calls: list[tuple[Tensor, Tensor, bool]] = []

    def forward(
        self, samples: Tensor, labels: Tensor, with_features: bool = False
    ) -> DiscriminatorOutput:
        self.calls.append((samples, labels, with_features))
        features = torch.ones(len(samples), 5, 5) if with_features else None
        return DiscriminatorOutput(samples[:, -1].mean(dim=(1, 2, 3))[:, None], features)


class Painter(Generator):
    """A generator whose image is its style, twice as large: every path has the same length."""

    z_shape = (64,)
    num_levels = 1
    num_classes = 0

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def map(self, z: Tensor, labels: Tensor) -> Tensor:
        return z * self.weight.mean()

    def synthesize(self, w: Tensor) -> Tensor:
        return 2 * w.view(-1, 1, 1, 8, 8)

    def orthogonal_weights(self) -> list[Tensor]:
        return [self.weight]
