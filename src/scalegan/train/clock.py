"""How long a run has trained: the sum of its steps, whatever came between them."""

import json
import math
import time
from pathlib import Path

from scalegan.config.durations import count_seconds, count_steps
from scalegan.config.schema import Config
from scalegan.runtime import text
from scalegan.runtime.files import write_durable
from scalegan.runtime.log import read_lines
from scalegan.runtime.world import World

NAME = "clock.jsonl"


class Clock:
    """Seconds of training alone: it runs while it is entered.

    Lines of `clock.jsonl` say after how many steps it showed what, so that a run that is resumed
    goes on with the time of the step it is resumed at.

    Args:
        run: the run's folder.
        is_first: whether this is the first rank, which alone writes.
        resumed_step: lines after it are dropped: these steps are about to be taken again.
    """

    def __init__(self, run: Path, is_first: bool, resumed_step: int) -> None:
        self.path, self.is_first = run / NAME, is_first
        self.lines = [line for line in read_lines(self.path) if line["step"] <= resumed_step]
        self.seconds: float = self.lines[-1]["seconds"] if self.lines else 0.0
        self.recorded = self.lines[-1]["step"] if self.lines else 0
        self.is_rewound = False

    def __enter__(self) -> "Clock":
        self.since = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.since

    def record(self, step: int) -> None:
        """Append the seconds after this many steps to the file, once per step."""
        if self.is_first and step > self.recorded:
            if not self.is_rewound:
                write_durable(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
            self.is_rewound, self.recorded = True, step
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "seconds": round(self.seconds, 4)}) + "\n")


class End:
    """Where a run ends: after so many steps, or so many seconds of training.

    Args:
        config: of the run.
        num_rows: images of an epoch.
    """

    def __init__(self, config: Config, num_rows: int) -> None:
        self.duration = config.train.duration
        self.seconds = count_seconds(self.duration) or math.inf
        self.steps: int | None = None
        if self.seconds == math.inf:
            images = config.images_per_step
            self.steps = count_steps(self.duration, "train.duration", images, num_rows)

    def is_reached(self, step: int, clock: Clock, world: World) -> bool:
        """Whether any rank is at the end; ranks have clocks of their own, but end together."""
        if self.steps is not None:
            return step >= self.steps
        return world.any(clock.seconds >= self.seconds)

    def left(self, clock: Clock) -> str:
        """Time that is left, where the end is a time."""
        if self.steps is not None:
            return ""
        return f"  {text.clock(self.seconds - clock.seconds)} of training left"

    def __str__(self) -> str:
        return self.duration if self.steps is None else f"{self.steps:,}"
