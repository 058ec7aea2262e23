"""The record of a run: console, log.txt, and values by step in metrics.jsonl."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from scalegan.runtime.files import write_durable


class Log:
    """The record of one run: the first rank's writes and prints, the others' do nothing.

    Args:
        run: the run's folder.
        is_first: whether this is the first rank.
        resumed_step: lines of metrics.jsonl after it are dropped: they are about to be made again.
    """

    def __init__(self, run: Path, is_first: bool, resumed_step: int) -> None:
        self.is_first = is_first
        self.console = Console(quiet=not is_first, highlight=False)
        self.metrics = run / "metrics.jsonl"
        self.text = run / "log.txt"
        if is_first:
            run.mkdir(parents=True, exist_ok=True)
        self.rewind(resumed_step)

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Drop lines of metrics.jsonl after a step, and return the others."""
        if not self.is_first:
            return []
        lines = [line for line in read_metrics(self.metrics.parent) if line["step"] <= step]
        write_durable(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))
        return lines

    def say(self, message: str, style: str = "") -> None:
        """Print a line and keep it in log.txt."""
        self.console.print(message, style=style, markup=False, soft_wrap=True)
        if self.is_first:
            with self.text.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def record(self, step: int, images_seen: int, values: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        if self.is_first:
            # JSON knows no NaN and no infinity.
            values = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in values.items()
            }
            line = {"step": step, "images_seen": images_seen, **values}
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; none if there is no such file."""
    return read_lines(run / "metrics.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a .jsonl file; a last line that a killed process cut short is left out."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
