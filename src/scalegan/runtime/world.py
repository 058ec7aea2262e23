"""Ranks, and sums and means across them. One process is a world of one and runs the same lines."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from scalegan.errors import TrainingError
from scalegan.runtime.watchdog import Pulse, ended_after

GROUP_TIMEOUT = timedelta(minutes=30)
"""After which PyTorch itself gives up; longer than the watchdog's, which names the rank."""
JOIN_SECONDS = 150.0
"""After which a rank that has not met the others ends, so that `torchrun` may start all again: gloo
may wait forever where a group is made anew just after a process of the last one was killed."""


class SumOverRanks(torch.autograd.Function):
    """A sum whose gradient is the sum of all ranks' gradients, and so on in any order."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return cast(Tensor, SumOverRanks.apply(gradient))


@dataclass(frozen=True)
class World:
    """Which process this is, of how many, and on which device it computes."""

    rank: int
    size: int
    device: torch.device
    pulse: Pulse = field(default_factory=Pulse, compare=False, repr=False)
    """Counts what this rank does, for the watchdog."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Average tensors over ranks in place, in one message."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._meeting():
            dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over ranks, as a tensor of its own that gradients of any order pass."""
        if self.size == 1:
            return tensor
        return cast(Tensor, SumOverRanks.apply(tensor)) / self.size

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, as a tensor of its own."""
        total = tensor.clone()
        if self.size > 1:
            total = total.contiguous()
            with self._meeting():
                dist.all_reduce(total)
        return total

    def gather(self, tensor: Tensor) -> Tensor:
        """Tensors of equal shape from all ranks, joined on the first axis in rank order."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with self._meeting():
            dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether any rank raised its flag; all ranks learn the same."""
        if self.size == 1:
            return flag
        raised = torch.tensor([float(flag)], device=self.device)
        with self._meeting():
            dist.all_reduce(raised)
        return bool(raised.item() > 0)

    def wait(self) -> None:
        if self.size > 1:
            with self._meeting():
                dist.barrier()

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """Around every call that waits for other ranks; one that is gone gets a sentence."""
        try:
            with self.pulse.waiting():
                yield
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            raise TrainingError(
                f"rank {self.rank} lost the others: {first[:200]}",
                "one of them ended; the same command goes on from the last checkpoint",
            ) from error


def choose_device(name: str = "auto") -> torch.device:
    """The device that a name stands for: "auto" (a GPU if there is one), "cpu", "cuda" (of this
    process, among those of its machine) or "cuda:1"."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return torch.device(name)


def join(device: str = "auto") -> World:
    """Join the group that `torchrun` started, or be a world of one.

    Args:
        device: as `choose_device` has it.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        hint = "start the run again; it goes on from its last checkpoint"
        with ended_after(JOIN_SECONDS, f"rank {rank} did not meet the others", hint):
            dist.init_process_group(backend, timeout=GROUP_TIMEOUT)
    return World(rank, size, chosen)


def is_restarted() -> bool:
    """Whether `torchrun` has started this group again after a process of it ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def leave() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
