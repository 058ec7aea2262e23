"""Tiny runs through the real command line, and what they leave behind.

Every command is a process of its own, forked in tenths of a second from one that has imported
everything. What starting a process anew can show is shown where a test starts `python -m scalegan`
or `torchrun` itself.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from scalegan.runtime.files import damage
from scalegan.runtime.log import read_metrics
from scalegan.train.checkpoint import list_checkpoints, step_of
from tests.support.fork_server import fork_server

TINY = [
    *("--model.width", "16", "--model.depth", "4", "--model.num-heads", "2"),
    *("--model.label-width", "32", "--train.batch-size", "16", "--train.threads", "1"),
    *("--evaluate.num-images", "0", "--every.log", "1 step"),
]
RARELY = "1000 steps"


def scalegan(
    *arguments: str, check: bool = True, with_curves: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    (child,) = fork_server().start(arguments, separate_errors=True, with_curves=with_curves)
    code = child.wait(200)
    out, err = child.out.read_text(), child.err.read_text()
    assert code is not None and (not check or code == 0), f"exit code {code}\n{out}\n{err}"
    return subprocess.CompletedProcess(["scalegan", *arguments], code, out, err)


def train(
    run: Path, steps: int, *more: str, check: bool = True, with_curves: bool = False
) -> subprocess.CompletedProcess[str]:
    """Train the digits recipe, made tiny, up to a step."""
    arguments = [*train_arguments(run, steps), *more]
    return scalegan(*arguments, check=check, with_curves=with_curves)


def train_arguments(run: Path, steps: int) -> list[str]:
    return ["train", "digits", "--run", str(run), *TINY, "--train.duration", f"{steps} steps"]


@dataclass(frozen=True)
class SmallRuns:
    """Runs in batches of 4 on a data set that is so small that epochs end within them."""

    data: Path

    def arguments(
        self, run: Path, steps: int, checkpoint: str = RARELY, samples: str = RARELY, *more: str
    ) -> list[str]:
        return [
            *train_arguments(run, steps),
            *("--data.source", f"npz:{self.data}", "--train.batch-size", "4"),
            *("--every.checkpoint", checkpoint, "--every.samples", samples, *more),
        ]


def hashes(run: Path, step: int) -> dict[str, str]:
    """Digests of every file of a checkpoint that is whole, its counters and config included."""
    path = run / "checkpoints" / f"step-{step:08d}"
    assert damage(path) is None
    found: dict[str, str] = json.loads((path / "manifest.json").read_text())
    return found


def newest_valid(run: Path) -> int:
    """Step of the newest valid checkpoint, -1 if there is none."""
    found = [step_of(p) for p in list_checkpoints(run / "checkpoints") if damage(p) is None]
    return max(found, default=-1)


def last_step(run: Path) -> int:
    """The last step that the record holds."""
    return max((line["step"] for line in read_metrics(run)), default=0)
