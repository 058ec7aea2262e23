import pytest
import torch

from scalegan.runtime.world import World, join, leave
from tests.support.fork_server import fork_server


def main(_: list[str]) -> None:
    """What each of two ranks does."""
    world = join("cpu")
    a, b = torch.full((2, 2), float(world.rank)), torch.tensor(10.0 * world.rank)
    world.mean_([a, b])
    assert a.tolist() == [[0.5, 0.5], [0.5, 0.5]] and b.item() == 5
    assert world.gather(torch.tensor([world.rank, 7])).tolist() == [0, 7, 1, 7]
    assert world.sum(torch.tensor([world.rank + 2**40])).tolist() == [2**41 + 1]
    assert world.any(world.rank == 1) and not world.any(False)
    world.wait()
    leave()
    print(world.rank, world.size, world.is_first)


def test_a_world_of_one_changes_nothing() -> None:
    world = World(0, 1, torch.device("cpu"))
    tensor = torch.arange(3.0)
    world.mean_([tensor])
    world.wait()
    assert tensor.tolist() == [0, 1, 2]
    assert world.gather(tensor) is tensor
    assert world.sum(tensor).tolist() == [0, 1, 2] and world.sum(tensor) is not tensor
    assert world.any(True) and not world.any(False)
    assert world.is_first and not World(1, 2, torch.device("cpu")).is_first


def test_join_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert join("cpu") == World(0, 1, torch.device("cpu"))
    leave()  # no group: nothing to leave


def test_two_ranks() -> None:
    said = [text.split() for text in fork_server().run([], ranks=2, program=__name__)]
    assert said == [["0", "2", "True"], ["1", "2", "False"]]
