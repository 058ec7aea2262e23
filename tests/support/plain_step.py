"""The training step straight from its formulas, with nothing done for speed, to compare ours with.

`PLAIN` names what the package does for speed and, for each, the plain way from the formulas: the
same draws in the same order, equal losses and gradients to float tolerance
(tests/unit/train/test_plain_step.py). `plainly` puts some or all of them in place of the package's
own.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from scalegan.layers import attention
from scalegan.losses.objective import Objective
from scalegan.models.gat import DiscriminatorBlock, GATDiscriminator, GATGenerator
from scalegan.runtime import memory
from scalegan.runtime.parallel import recompute
from scalegan.train import state as states
from scalegan.train.state import TrainState, Turn


def every_block_recomputed(state: TrainState) -> ExitStack:
    """Blocks keep their input alone and run again in the backward pass."""
    stack = ExitStack()
    for network in state.networks.values():
        forwards = [block.forward for block in network.blocks]  # type: ignore[union-attr]
        recompute(network, "full")
        for block, forward in zip(network.blocks, forwards, strict=True):  # type: ignore[arg-type]
            stack.callback(setattr, block, "forward", forward)
    return stack


def generator_in_both_turns(_: TrainState) -> Any:
    """Once without gradients for the discriminator, once with them for itself; the same z."""
    begin = TrainState.begin

    def plain_begin(self: TrainState, *args: Any) -> Turn:
        turn = begin(self, *args)
        turn.reuses_fakes = False
        return turn

    return patch.object(TrainState, "begin", plain_begin)


def all_tokens_in_the_last_block(_: TrainState) -> Any:
    forward = DiscriminatorBlock.forward

    def plain_forward(
        self: DiscriminatorBlock, x: Tensor, rotary: Tensor, first_only: bool = False
    ) -> Tensor:
        x = forward(self, x, rotary)
        return x[:, :1] if first_only else x

    return patch.object(DiscriminatorBlock, "forward", plain_forward)


def one_discriminator_pass_at_a_time(_: TrainState) -> Any:
    def logits_of(
        self: Objective, discriminator: Any, shown: list[Tensor], batch: Any
    ) -> tuple[list[Tensor], Tensor | None]:
        is_aligned = self.config.alignment.weight > 0
        outputs = [
            discriminator(levels, batch.labels, with_features=is_aligned and i == 0)
            for i, levels in enumerate(shown)
        ]
        return [output.logits for output in outputs], outputs[0].features

    return patch.object(Objective, "logits_of", logits_of)


def projector_in_every_pass(_: TrainState) -> Any:
    forward = GATDiscriminator.forward

    def plain_forward(
        self: GATDiscriminator, samples: Tensor, labels: Tensor, with_features: bool = False
    ) -> Any:
        if self.projector is None:
            return forward(self, samples, labels)
        output = forward(self, samples, labels, with_features=True)
        return output if with_features else output._replace(features=None)

    return patch.object(GATDiscriminator, "forward", plain_forward)


def rotation_in_reals(_: TrainState) -> Any:
    """(a cos - b sin, b cos + a sin) on the halves of pairs; the class token aside."""

    def rotate(x: Tensor, rotary: Tensor) -> Tensor:
        num_free = x.shape[2] - rotary.shape[0]
        free, grid = x[:, :, :num_free], x[:, :, num_free:]
        cosine, sine = rotary.repeat_interleave(2, dim=1).unbind(-1)  # (T, 2 R)
        a, b = grid.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack([-b, a], dim=-1).flatten(-2)
        return torch.cat([free, grid * cosine + turned * sine], dim=2)

    return patch.object(attention, "rotate", rotate)


def default_optimizer(state: TrainState) -> Any:
    """AdamW as it comes, with the running values there are."""
    found: dict[str, torch.optim.Optimizer] = {}
    for name, optimizer in state.optimizers.items():
        group = optimizer.param_groups[0]
        same = {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")}
        found[name] = torch.optim.AdamW(group["params"], **same)
        found[name].state = optimizer.state
    return patch.object(state, "optimizers", found)


def average_one_by_one(_: TrainState) -> Any:
    @torch.no_grad()
    def update_average(average: nn.Module, network: nn.Module, decay: float, _: str) -> None:
        for mine, other in zip(average.parameters(), network.parameters(), strict=True):
            mine.copy_(decay * mine + (1 - decay) * other)
        for mine, other in zip(average.buffers(), network.buffers(), strict=True):
            mine.copy_(other)

    return patch.object(states, "update_average", update_average)


@torch.no_grad()
def track(self: GATGenerator, w: Tensor, labels: Tensor) -> None:
    """Class by class: w_avg[k] <- decay w_avg[k] + (1 - decay) mean of the styles of class k."""
    for label in labels.unique():
        mean = w[labels == label].to(self.style_mean.dtype).mean(dim=0)
        decay = self.style_decay
        self.style_mean[label] = decay * self.style_mean[label] + (1 - decay) * mean
        self.style_updates[label] += 1


def class_by_class(_: TrainState) -> Any:
    return patch.object(GATGenerator, "track", track)


@contextmanager
def memory_given_back(_: TrainState) -> Iterator[None]:
    """glibc as it is by default, which adapts itself to blocks of up to 32 MiB."""
    library = ctypes.CDLL(None)
    library.mallopt(memory.MMAP_THRESHOLD, 32 << 20)
    library.mallopt(memory.TRIM_THRESHOLD, 64 << 20)
    library.malloc_trim(0)
    try:
        yield
    finally:
        memory.keep_freed_memory()


PLAIN: dict[str, Callable[[TrainState], Any]] = {
    "kept activations": every_block_recomputed,
    "one generator forward": generator_in_both_turns,
    "class token alone": all_tokens_in_the_last_block,
    "joint passes": one_discriminator_pass_at_a_time,
    "projector where used": projector_in_every_pass,
    "complex rotation": rotation_in_reals,
    "fused AdamW": default_optimizer,
    "foreach average": average_one_by_one,
    "scattered class means": class_by_class,
    **({"freed memory": memory_given_back} if memory.keep_freed_memory() else {}),
}
"""What is done for speed, and how it is taken back. To import this is to keep freed memory, as the
command line does."""


@contextmanager
def plainly(state: TrainState, *names: str) -> Iterator[None]:
    """Take back what `names` say, or everything; the state is as it was afterwards."""
    with ExitStack() as stack:
        for name in names or PLAIN:
            stack.enter_context(PLAIN[name](state))
        yield


def mean_over_classes(generator: GATGenerator, z: Tensor) -> Tensor:
    """The mean of the mapping over all classes, by mapping every pair of noise and class."""
    labels = torch.arange(generator.num_classes)
    return torch.stack(
        [generator.map(row.expand(len(labels), -1), labels).mean(dim=0) for row in z]
    )
