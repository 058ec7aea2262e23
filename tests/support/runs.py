"""Tiny runs through the real command line, for tests that need a process."""

import json
import subprocess
import sys
from pathlib import Path

TINY = [
    *("--model.width", "16", "--model.depth", "4", "--model.num-heads", "2"),
    *("--model.label-width", "32", "--train.batch-size", "16", "--train.threads", "1"),
    *("--evaluate.num-images", "0", "--every.log", "1 step"),
]


def scalegan(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [sys.executable, "-m", "scalegan", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert not check or done.returncode == 0, done.stderr
    return done


def train(
    run: Path, steps: int, *more: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Train the digits recipe, made tiny, up to a step."""
    return scalegan(*train_arguments(run, steps), *more, check=check)


def train_arguments(run: Path, steps: int) -> list[str]:
    return ["train", "digits", "--run", str(run), *TINY, "--train.duration", f"{steps} steps"]


def hashes(run: Path, step: int) -> dict[str, str]:
    """Digests of every file of a checkpoint, its counters and config included."""
    path = run / "checkpoints" / f"step-{step:08d}" / "manifest.json"
    found: dict[str, str] = json.loads(path.read_text())
    return found
