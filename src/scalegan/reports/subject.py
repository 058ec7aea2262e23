"""What a report is about: a run or a snapshot, and whatever of it is there."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalegan.config import reading as configs
from scalegan.config.durations import count_steps, parse_duration
from scalegan.config.schema import Config
from scalegan.errors import CheckpointError
from scalegan.inference.snapshot import GAN, load, newest
from scalegan.reports.sweep import Measured
from scalegan.runtime.files import read_json
from scalegan.runtime.log import read_metrics

TIME = "%Y-%m-%dT%H:%M:%S%z"


@dataclass
class Subject:
    """A run or a snapshot. What it does not have is None or empty."""

    path: Path
    out: Path
    """The HTML file."""
    gan: GAN | None
    snapshot: Path | None
    config: Config | None
    lines: list[dict[str, Any]]
    """Of metrics.jsonl."""
    truncations: list[float | None] = field(default_factory=lambda: [None])
    """That images are shown at; None, no truncation, is the last."""
    measured: Measured = field(default_factory=Measured)
    rate: float = 0.0
    """Images per second on `device`; 0 = not measured."""
    device: str = "cpu"

    @property
    def step(self) -> int:
        """The last step that is known of."""
        last = int(self.lines[-1]["step"]) if self.lines else 0
        return max(last, self.gan.card.step if self.gan else 0)

    @property
    def total(self) -> int | None:
        """Steps of the whole run; None if only the data would tell."""
        if self.config is None:
            return None
        train = self.config.train
        _, unit = parse_duration(train.duration, "train.duration")
        images = self.config.images_per_step
        if unit not in ("steps", "images"):
            return None
        return count_steps(train.duration, "train.duration", images, 0)

    @property
    def name(self) -> str:
        if self.gan:
            return self.gan.card.name
        return self.config.name if self.config else self.path.name

    def file(self, name: str) -> str:
        """Where a file of the run is, seen from the report; empty if it is not there."""
        path = self.path / name
        return Path(os.path.relpath(path, self.out.parent)).as_posix() if path.is_file() else ""

    def starts(self) -> list[dict[str, Any]]:
        """What environment.json has of each start of the run."""
        try:
            found = read_json(self.path / "environment.json")
        except (FileNotFoundError, json.JSONDecodeError):
            return []
        return found if isinstance(found, list) else []

    def seconds(self) -> float | None:
        """From the first start to the last line of metrics.jsonl; None if that is not known."""
        starts, metrics = self.starts(), self.path / "metrics.jsonl"
        try:
            first = time.mktime(time.strptime(starts[0]["time"][:19], TIME[:-2]))
            last = metrics.stat().st_mtime
        except (IndexError, KeyError, ValueError, TypeError, FileNotFoundError):
            return None
        return last - first if last > first else None


def open_subject(path: Path, out: Path, device: str, tell: Callable[[str], None]) -> Subject:
    """A run, also before its first snapshot, or a snapshot.

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
        tell(f"notice: `{path}` has no snapshot yet: what needs a generator is left out")
    gan = None if snapshot is None else load(snapshot, device)
    config = configs.read(str(path / "config.toml")) if is_run else None
    return Subject(path, out, gan, snapshot, config, read_metrics(path), device=device)
