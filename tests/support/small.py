"""The command line of a small run, and what it leaves behind."""

import json
from dataclasses import dataclass
from pathlib import Path

from scalegan.runtime.files import damage
from scalegan.runtime.log import read_metrics
from scalegan.train.checkpoint import list_checkpoints, step_of
from tests.support.runs import TINY

RARELY = "1000 steps"


@dataclass(frozen=True)
class Small:
    """Small runs on one data set."""

    data: Path

    def arguments(
        self, run: Path, steps: int, checkpoint: str = RARELY, samples: str = RARELY, *more: str
    ) -> list[str]:
        return [
            *("train", "digits", "--run", str(run), *TINY, "--data.source", f"npz:{self.data}"),
            *("--train.batch-size", "4", "--train.duration", f"{steps} steps"),
            *("--every.checkpoint", checkpoint, "--every.samples", samples, *more),
        ]


def tensors(run: Path, step: int) -> dict[str, str]:
    """Digests of the files of a checkpoint."""
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
