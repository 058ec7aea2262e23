"""Options of the whole test suite."""

from pathlib import Path

import pytest
import torch

from tests.support.fork_server import close_fork_server

# Two workers on two cores: more threads than cores make small networks many times slower.
torch.set_num_threads(1)

PARITY = Path(__file__).parents[2] / "shared" / "parity"
SMALL_PARITY = Path(__file__).parent / "parity" / "cases_small"
"""A case or two of every system, which every clone has."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-dir",
        type=Path,
        default=PARITY if PARITY.is_dir() else SMALL_PARITY,
        help="reference vectors, SYSTEM/NAME.safetensors",
    )


def pytest_unconfigure() -> None:
    close_fork_server()
