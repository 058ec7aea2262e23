"""Two processes with sharded weights against replicated ones; checkpoints across both."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from scalegan.errors import TrainingError
from scalegan.planning.scale import gathers
from scalegan.runtime.sharding import full, is_part, like, local, part_shapes
from scalegan.runtime.world import World
from scalegan.train import checkpoint
from scalegan.train.step import train_step
from tests.support import tiny
from tests.support.fork_server import fork_server
from tests.support.sharded_program import NAMES, assert_close, new_state

ALONE = World(0, 1, tiny.CPU)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left behind, once their own comparisons have held."""
    folder = tmp_path_factory.mktemp("sharded")
    fork_server().run([str(folder)], ranks=2, program="tests.support.sharded_program")
    return folder


def test_one_process_reads_what_two_wrote(folder: Path) -> None:
    (path,) = checkpoint.list_checkpoints(folder / "parts")
    assert checkpoint.damage(path) is None
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}  # no pickles
    assert len(list(path.glob("*.safetensors"))) == 2
    ours, whole = new_state(ALONE, "shard"), new_state(ALONE, "replicate")
    assert not ours.is_sharded  # one process has nothing to share
    checkpoint.restore_checkpoint(path, ours, NAMES)
    checkpoint.restore_checkpoint(folder / "whole" / path.name, whole, NAMES)
    assert ours.step == whole.step == 2
    assert_close(ours, whole, atol=1e-5)
    train_step(ours, [[tiny.batch(4, with_images=True)]])
    assert ours.is_finite


def test_damaged_and_other_parts_are_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    (path,) = checkpoint.list_checkpoints(folder / "parts")
    copy = shutil.copytree(path, tmp_path / path.name)
    file = min(copy.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match="does not match its digest"):
        checkpoint.restore_checkpoint(copy, new_state(ALONE, "shard"), NAMES)
    smaller = new_state(ALONE, "shard")
    smaller.discriminator.extra = nn.Parameter(torch.zeros(3))
    with pytest.raises(checkpoint.CheckpointError, match=r"no tensor for `discriminator\.extra`"):
        checkpoint.restore_checkpoint(path, smaller, NAMES)
    assert part_shapes(path)["generator.style_updates"] == (tiny.NUM_CLASSES,)


def test_messages_are_those_of_the_scaling_table(folder: Path) -> None:
    """Whole bytes that went around in one step; uneven parts are padded by some percent here."""
    found = json.loads((folder / "messages.json").read_text())
    of_generator, of_discriminator = gathers(2, keeps_fake=True)
    expected = {
        "gathered": of_generator * found["generator"] + of_discriminator * found["discriminator"],
        "reduced": found["generator"] + found["discriminator"],
    }
    for name, size in expected.items():
        assert found[name] == pytest.approx(size, rel=0.05), name


def test_the_first_turn_misses_no_gradient() -> None:
    state = tiny.state()
    state.generator.extra = nn.Parameter(torch.zeros(3))
    with pytest.raises(TrainingError, match=r"^`extra` of the generator got no gradient in its"):
        train_step(state, [[tiny.batch()]])


def test_plain_tensors_stay_as_they_are() -> None:
    tensor, layer = torch.ones(2), nn.Linear(2, 2)
    assert full(tensor) is local(tensor) is like(tensor, layer.weight) is tensor
    assert not is_part(tensor)
