import pytest
import torch

from scalegan.features.judge import Judge, accuracy, train_judge
from scalegan.interfaces import Images, Labels


def dark_and_bright(count: int = 120, side: int = 8) -> tuple[Images, Labels]:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, 3, side, side), generator=rng)
    return (noise + 150 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def test_it_learns_what_is_easy_and_repeats_itself() -> None:
    images, labels = dark_and_bright()
    judge, held_out_accuracy = train_judge(images, labels, 2, seed=0)
    assert held_out_accuracy == 1
    assert accuracy(judge, images, labels) == 1
    assert accuracy(judge, images, 1 - labels) == 0
    assert not judge.training and not any(p.requires_grad for p in judge.parameters())
    again = train_judge(images, labels, 2, seed=0).judge
    for a, b in zip(judge.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("side", [4, 8, 32, 33])
def test_it_takes_any_side(side: int) -> None:
    judge = Judge(3)
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    assert judge(images).shape == (2, 3)
    assert judge.features(images).shape == (2, 64)


def test_accuracy_counts() -> None:
    judge = Judge(2)
    torch.nn.init.zeros_(judge.out.weight)
    with torch.no_grad():
        judge.out.bias.copy_(torch.tensor([1.0, 0.0]))  # always the first class
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    assert accuracy(judge, images, torch.tensor([0, 1, 0, 0])) == 0.75
