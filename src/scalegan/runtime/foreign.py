"""Tensors of files that others wrote; a pickle is opened by a child process only."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from scalegan.errors import CheckpointError
from scalegan.runtime.files import load_tensors

NEEDS_TRUST = 3
"""Exit code of the child for a file that weights-only loading refuses."""


def read_tensors(source: Path, is_trusted: bool = False) -> dict[str, Tensor]:
    """Tensors of a file by dotted key.

    Args:
        source: .safetensors, or a pickle.
        is_trusted: open a pickle that weights-only loading refuses, in the child process.

    Raises:
        CheckpointError: if it is not there, cannot be read, or needs trust.
    """
    if not source.is_file():
        raise CheckpointError(f"there is no file `{source}`")
    if source.suffix == ".safetensors":
        return load_tensors(source)
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "tensors.safetensors"
        command = [sys.executable, "-m", "scalegan.runtime.unpickle", str(source), str(plain)]
        done = subprocess.run(
            [*command, *(["--trusted"] if is_trusted else [])], capture_output=True, text=True
        )
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        if done.returncode == NEEDS_TRUST:
            raise CheckpointError(
                f"`{source}` does not load as plain tensors: {reason}",
                "if you trust who made it: --allow-unsafe-pickle",
            )
        if done.returncode:
            raise CheckpointError(f"`{source}` cannot be read: {reason}")
        return load_tensors(plain)
