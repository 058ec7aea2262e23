"""Two gloo ranks with half the batch each equal one process with all of it."""

import pytest
import torch

from scalegan.runtime.files import load_tensors
from scalegan.runtime.world import World
from tests.support import rank_gradients
from tests.support.fork_server import fork_server


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes makes of its half."""
    folder = tmp_path_factory.mktemp("ranks")
    fork_server().run([str(folder)], ranks=2, program="tests.support.rank_gradients")
    return [load_tensors(folder / f"{rank}.safetensors") for rank in range(2)]


def test_gradients_and_statistics_are_those_of_the_whole_batch(
    found: list[dict[str, torch.Tensor]],
) -> None:
    whole = rank_gradients.everything(World(0, 1, torch.device("cpu")))
    assert any("running_var" in name for name in whole)  # LadaGAN's discriminator
    assert any("blocks.0.norm1.variance" in name for name in whole)  # BigGAN's generator
    for part in found:
        assert part.keys() == whole.keys()
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, rtol=2e-3, atol=2e-5, msg=name)
    for name in whole:
        assert torch.equal(found[0][name], found[1][name]), f"{name} differs between ranks"
