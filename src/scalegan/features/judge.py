"""A small classifier trained on the run's own real images: a judge that needs no download.

Its last hidden layer is a feature space in which real and generated images can be compared, and
its verdict says whether a class-conditional sample shows its class. Numbers from different judges
are not comparable.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scalegan.interfaces import Images, Labels
from scalegan.runtime.rng import seed_all, stream

EPOCHS = 30
BATCH_SIZE = 64
HELD_OUT = 0.2


class Judge(nn.Module):
    """Three convolutions, halving the side while it is above four, and one hidden layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 32), (32, 64), (64, 64))
        )
        self.hidden = nn.Linear(64 * 16, 64)
        self.out = nn.Linear(64, num_classes)

    def features(self, images: Images) -> Float[Tensor, "N E"]:
        x = images.float() / 127.5 - 1
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
            x = F.avg_pool2d(x, 2) if x.shape[-1] > 7 else x
        return F.relu(self.hidden(F.adaptive_avg_pool2d(x, 4).flatten(1)))

    def forward(self, images: Images) -> Float[Tensor, "N K"]:
        return self.out(self.features(images))


class Trained(NamedTuple):
    """A judge and its accuracy on real images that it has not seen."""

    judge: Judge
    held_out_accuracy: float


def train_judge(images: Images, labels: Labels, num_classes: int, seed: int) -> Trained:
    """Fit a judge; a fifth of the images is held out for its own accuracy."""
    seed_all(seed, "judge")
    rng = stream(seed, "judge", "order")
    judge = Judge(num_classes)
    order = torch.randperm(len(images), generator=rng)
    held_out, training = order.split(
        [int(HELD_OUT * len(order)), len(order) - int(HELD_OUT * len(order))]
    )
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
    steps = EPOCHS * (-(-len(training) // BATCH_SIZE))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        shuffled = training[torch.randperm(len(training), generator=rng)]
        for part in shuffled.split(BATCH_SIZE):
            loss = F.cross_entropy(judge(images[part]), labels[part], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    judge.eval().requires_grad_(False)
    return Trained(judge, accuracy(judge, images[held_out], labels[held_out]))


@torch.no_grad()
def accuracy(judge: Judge, images: Images, labels: Labels) -> float:
    """Share of images that the judge gives their label."""
    verdicts = [judge(part).argmax(dim=1) for part in images.split(512)]
    return (torch.cat(verdicts) == labels).double().mean().item()
