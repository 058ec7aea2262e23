"""Options of the whole test suite."""

from pathlib import Path

import pytest
import torch

from tests.support.fork_server import close_fork_server

# Two workers on two cores: more threads than cores make small networks many times slower.
torch.set_num_threads(1)

PARITY = Path(__file__).parents[2] / "shared" / "parity"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-dir", type=Path, default=PARITY, help="reference vectors, SYSTEM/NAME.safetensors"
    )


def pytest_unconfigure() -> None:
    close_fork_server()
