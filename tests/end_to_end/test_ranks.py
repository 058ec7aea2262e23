"""Two gloo ranks with half the batch each equal one process with all of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scalegan.runtime.files import load_tensors
from scalegan.runtime.world import World
from tests.support import ranks


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes makes of its half."""
    folder = tmp_path_factory.mktemp("ranks")
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.ranks", str(folder)],
            env={**os.environ, **group, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    return [load_tensors(folder / f"{rank}.safetensors") for rank in range(2)]


def test_gradients_and_statistics_are_those_of_the_whole_batch(
    found: list[dict[str, torch.Tensor]],
) -> None:
    whole = ranks.everything(World(0, 1, torch.device("cpu")))
    assert any("running_var" in name for name in whole)  # LadaGAN's discriminator
    assert any("blocks.0.norm1.variance" in name for name in whole)  # BigGAN's generator
    for part in found:
        assert part.keys() == whole.keys()
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, rtol=2e-3, atol=2e-5, msg=name)
    for name in whole:
        assert torch.equal(found[0][name], found[1][name]), f"{name} differs between ranks"
