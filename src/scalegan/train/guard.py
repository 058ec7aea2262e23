"""What keeps a run from harm: values that are not finite, rollback, a clean stop on signals."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from scalegan.errors import CheckpointError, TrainingError
from scalegan.runtime.files import read_json, write_json
from scalegan.runtime.world import World
from scalegan.train import checkpoint
from scalegan.train.state import TrainState

MOST_BAD_STEPS = 3
MOST_ROLLBACKS = 3
ATTEMPTS = "attempts.json"
"""Rollbacks of a run: what was bad, at which step, and the number of the attempt that followed."""


class Signals:
    """Turns SIGINT, SIGTERM and SIGUSR1 into a wish to stop after the current step.

    A second SIGINT ends the process at once.
    """

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "Signals":
        self.before = {number: signal.signal(number, self._note) for number in self.caught}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def is_wished(self) -> bool:
        """Whether this process received one."""
        return self.received is not None

    def agree(self, world: World) -> int:
        """The number of the signal that stops the run, the same on all ranks."""
        own = torch.tensor([self.received or 0], device=world.device)
        return int(world.gather(own).max())

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number


@dataclass
class BadSteps:
    """Counts steps in a row whose values were not finite, and the rollbacks that followed.

    Attributes:
        seen: what was bad in the steps that are counted, one sentence each.
    """

    in_a_row: int = 0
    rollbacks: int = 0
    seen: list[str] = field(default_factory=list)

    def note(self, is_finite: bool, step: int, bad: str) -> bool:
        """Count a step; whether it is time to roll back. Nothing bad has reached a weight.

        Args:
            bad: name of the first tensor that was not finite.

        Raises:
            TrainingError: if the rollbacks of this start have brought nothing.
        """
        if is_finite:
            self.in_a_row = 0
            return False
        self.in_a_row += 1
        self.seen.append(f"step {step}: {bad}")
        if self.in_a_row < MOST_BAD_STEPS:
            return False
        if self.rollbacks == MOST_ROLLBACKS:
            raise TrainingError(
                f"after {self.rollbacks} rollbacks, {self.in_a_row} steps in a row up to step "
                f"{step} had values that are not finite again; first bad tensors: "
                f"{'; '.join(self.seen[-MOST_BAD_STEPS:])}",
                "the last checkpoint is sound: resume it with a smaller `optim.learning_rate`; "
                f"`{ATTEMPTS}` lists all rollbacks",
            )
        self.in_a_row, self.rollbacks = 0, self.rollbacks + 1
        return True


def roll_back(
    state: TrainState,
    run: Path,
    class_names: list[str],
    seen: list[str],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Put the last valid checkpoint back and raise `attempt`, which is written down first.

    The same random draws would lead to the same end: `attempt` is part of every seed and of the
    order of the data. Without a checkpoint the run goes on from where it is, for nothing bad has
    reached it.

    Args:
        seen: what was bad.

    Returns:
        The event, for the record.
    """
    attempt, from_step = state.attempt + 1, state.step
    path = newest(run / "checkpoints", state.world, tell)
    to = from_step if path is None else checkpoint.step_of(path)
    event = {
        "attempt": attempt,
        "from_step": from_step,
        "to_step": to,
        "bad": seen[-MOST_BAD_STEPS:],
    }
    if state.world.is_first:
        write_attempt(run, event)
    state.world.wait()
    if path is not None:
        checkpoint.restore_checkpoint(path, state, class_names)
    state.attempt = attempt
    where = f"`{path}`" if path else "where it is, for there is no checkpoint yet"
    tell(f"rolled back from step {from_step:,} to {where}; attempt {attempt}")
    return {"event": "rollback"} | event


def newest(folder: Path, world: World, tell: Callable[[str], None]) -> Path | None:
    """The newest valid checkpoint, found by the first rank for all.

    Raises:
        CheckpointError: if there are checkpoints and all are damaged.
    """
    found = checkpoint.find_newest(folder, tell) if world.is_first else None
    own = torch.tensor([-1 if found is None else checkpoint.step_of(found)], device=world.device)
    step = int(world.gather(own)[0])
    return None if step < 0 else folder / checkpoint.name_of(step)


def read_attempt(run: Path) -> int:
    """The number of the attempt that a run's folder is in, 0 for a run without rollbacks.

    Raises:
        CheckpointError: if it cannot be read.
    """
    path = run / ATTEMPTS
    try:
        return int(read_json(path)[-1]["attempt"]) if path.is_file() else 0
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"`{path}` cannot be read: {error!r}", "without it the attempts count from 0 again"
        ) from None


def write_attempt(run: Path, event: dict[str, Any]) -> None:
    """Write a rollback down, on the disk when this returns."""
    path = run / ATTEMPTS
    before = read_json(path) if path.is_file() else []
    write_json(path, [*before, event])
