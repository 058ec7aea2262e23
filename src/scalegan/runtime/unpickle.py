"""A child process that opens one foreign pickle and leaves plain tensors behind.

A pickle can run anything when it is opened. `scalegan convert` therefore never opens one itself: it
runs `python -m scalegan.runtime.unpickle FILE OUT`, which tries weights-only loading and does more
only if it was told that the file is trusted.
"""

import argparse
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from scalegan.runtime.foreign import NEEDS_TRUST


def main() -> None:
    """Write the tensors of FILE to OUT, with their nested keys joined by dots."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trusted", action="store_true")
    arguments = parser.parse_args()
    # The official checkpoints hold their command line; a namespace runs nothing.
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        content = torch.load(arguments.file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not arguments.trusted:
            print(str(error).splitlines()[0], file=sys.stderr)
            sys.exit(NEEDS_TRUST)
        content = torch.load(arguments.file, map_location="cpu", weights_only=False)
    save_file(dict(tensors(content, "")), arguments.out)


def tensors(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dictionaries; anything else is left behind."""
    if isinstance(content, Tensor):
        yield prefix.rstrip("."), content.detach().clone().contiguous()
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from tensors(value, f"{prefix}{key}.")
    elif isinstance(content, int) and not isinstance(content, bool):
        yield prefix.rstrip("."), torch.tensor(content)


if __name__ == "__main__":
    main()
