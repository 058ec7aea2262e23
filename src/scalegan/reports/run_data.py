"""What is known of a run or a snapshot before anything is measured: its files, read once."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalegan.config import reading as configs
from scalegan.config.durations import count_seconds, count_steps, parse_duration
from scalegan.config.schema import Config
from scalegan.errors import CheckpointError
from scalegan.evaluation.measure import Number
from scalegan.evaluation.results import recorded
from scalegan.inference.gan import GAN, load
from scalegan.inference.snapshot import newest
from scalegan.runtime.files import read_json
from scalegan.runtime.log import read_lines, read_metrics
from scalegan.train.clock import NAME as CLOCK


@dataclass(frozen=True)
class RunData:
    """A run or a snapshot; what it does not have is None or empty."""

    path: Path
    page: Path
    """The HTML file that is written about it."""
    device: str
    """That `gan` is on."""
    gan: GAN | None
    snapshot: Path | None
    config: Config | None
    metrics: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    starts: list[dict[str, Any]]
    """What environment.json has of each start."""
    recorded: list[Number]
    """Of the run's last own evaluation (evaluation.json)."""
    clock: list[dict[str, Any]]
    """Lines of clock.jsonl: seconds of training after some steps."""

    @property
    def name(self) -> str:
        """The recipe's name."""
        if self.gan:
            return self.gan.card.name
        return self.config.name if self.config else self.path.name

    @property
    def step(self) -> int:
        """The last step that is known of."""
        last = int(self.metrics[-1]["step"]) if self.metrics else 0
        return max(last, self.gan.card.step if self.gan else 0)

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run; None where it ends by time, or only the data would tell."""
        if self.config is None or count_seconds(self.config.train.duration):
            return None
        duration = self.config.train.duration
        _, unit = parse_duration(duration, "train.duration")
        if unit == "epochs":
            return None
        return count_steps(duration, "train.duration", self.config.images_per_step, 0)

    @property
    def seconds(self) -> float:
        """Seconds of training by the run's own clock, without evaluations, saving and pauses."""
        return float(self.clock[-1]["seconds"]) if self.clock else 0.0

    @property
    def images_per_second(self) -> float:
        """Of training, by the run's own clock; 0 if that is not known."""
        if self.config is None or not self.seconds:
            return 0.0
        return float(self.clock[-1]["step"] * self.config.images_per_step / self.seconds)

    @property
    def unfinished(self) -> str:
        """How far a run is that has not reached its end, such as "40 of 60 steps", else nothing."""
        if self.total_steps:
            is_over = self.step >= self.total_steps
            return "" if is_over else f"{self.step:,} of {self.total_steps:,} steps"
        duration = self.config.train.duration if self.config else ""
        seconds = count_seconds(duration) if duration else 0
        return f"{self.seconds:,.0f} s of {duration}" if self.seconds < seconds else ""

    def link(self, path: Path) -> str:
        """Where a file is, seen from the page; nothing if there is no such file."""
        return Path(os.path.relpath(path, self.page.parent)).as_posix() if path.is_file() else ""


def read_run_data(path: Path, page: Path, device: str) -> RunData:
    """Read a run, also before its first snapshot, or a snapshot.

    Raises:
        CheckpointError: if it is neither, or damaged.
    """
    is_run = (path / "config.toml").is_file()
    try:
        snapshot: Path | None = newest(path)
    except CheckpointError:
        if not is_run:
            raise
        snapshot = None
        print(f"notice: `{path}` has no snapshot yet: what needs a generator is left out")
    return RunData(
        path=path,
        page=page,
        device=device,
        gan=None if snapshot is None else load(snapshot, device),
        snapshot=snapshot,
        config=configs.read(str(path / "config.toml")) if is_run else None,
        metrics=read_metrics(path),
        starts=_starts(path / "environment.json"),
        recorded=recorded(path),
        clock=read_lines(path / CLOCK),
    )


def _starts(path: Path) -> list[dict[str, Any]]:
    try:
        starts = read_json(path)
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return starts if isinstance(starts, list) else []
