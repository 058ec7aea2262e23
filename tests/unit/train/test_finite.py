import math

import pytest
import torch

from scalegan.runtime.world import World
from scalegan.train.finite import is_sound, largest, name_bad

CPU = torch.device("cpu")
BAD = [math.nan, math.inf, -math.inf]
WORLD = World(0, 1, CPU)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("place", [0, 1])
def test_one_bad_value_shows_in_the_largest(value: float, place: int) -> None:
    tensors = [torch.ones(3), torch.ones(2, 2), torch.ones(2, dtype=torch.int64)]
    assert largest(tensors, CPU) == 1
    tensors[place].view(-1)[1] = value
    assert not largest(tensors, CPU).isfinite()


def test_nothing_to_look_at_is_sound() -> None:
    assert largest([], CPU) == 0 and largest([torch.ones(2, dtype=torch.int64)], CPU) == 0


@pytest.mark.parametrize("value", BAD)
def test_soundness_and_wish_in_one_wait(value: float) -> None:
    good, bad = torch.tensor(1.0), torch.tensor(value)
    assert is_sound([good, good], torch.tensor(0.0)) == (True, False)
    assert is_sound([good, bad], torch.tensor(0.5)) == (False, True)


def test_the_first_bad_one_is_named() -> None:
    suspects = [
        ("a", torch.ones(2)),
        ("count", torch.ones(2, dtype=torch.int64)),
        ("b", torch.tensor([1.0, math.inf])),
        ("c", torch.tensor(math.nan)),
    ]
    assert name_bad(suspects, WORLD) == "b"
    assert name_bad(suspects[:2], WORLD) == "norm of the gradients"
