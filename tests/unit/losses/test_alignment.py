import pytest
import torch

from scalegan.interfaces import IMAGENET_DEVIATION, IMAGENET_MEAN
from scalegan.losses.alignment import alignment, teacher_input


def test_alignment_by_hand() -> None:
    mine = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [1.0, 0.0]]])
    other = torch.tensor([[[0.0, 5.0], [1.0, 0.0], [0.0, -1.0], [1.0, -1.0], [1.0, 0.0]]])
    token, patches = alignment(mine, other)
    assert token.item() == pytest.approx(1)  # at a right angle
    assert patches.item() == pytest.approx((0 + 2 + 1 + 0) / 4)  # same, opposite, right angle, same


def test_lengths_do_not_matter() -> None:
    features = torch.randn(2, 5, 3)
    token, patches = alignment(features, 7 * features)
    torch.testing.assert_close(token, torch.zeros(2))
    torch.testing.assert_close(patches, torch.zeros(2))


def test_zero_features_have_no_direction_and_are_finite() -> None:
    token, patches = alignment(torch.zeros(1, 2, 3), torch.randn(1, 2, 3))
    assert (token.item(), patches.item()) == (1, 1)


def test_a_teacher_of_another_grid_is_resized() -> None:
    constant = torch.tensor([1.0, 2.0]).expand(1, 1 + 16, 2)  # 4x4 patches, all alike
    token, patches = alignment(constant[:, : 1 + 4], constant)  # 2x2
    torch.testing.assert_close(torch.stack([token, patches]), torch.zeros(2, 1))


def test_resizing_keeps_rows_and_columns_apart() -> None:
    halves = torch.zeros(1, 1 + 16, 2)
    halves[:, 0] = 1
    halves[0, 1:9, 0] = 1  # the upper half points one way, the lower half the other
    halves[0, 9:, 1] = 1
    mine = torch.tensor([[[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    assert alignment(mine, halves)[1].item() < 0.01
    sideways = mine[:, [0, 1, 3, 2, 4]]
    assert alignment(sideways, halves)[1].item() > 0.4


@pytest.mark.parametrize("side", [8, 14])
def test_teacher_input_is_normalized_by_channel(side: int) -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    shown = teacher_input(images, side)
    assert shown.shape == (2, 3, side, side)
    for channel, value in enumerate((0, 0.2, 1)):
        expected = (value - IMAGENET_MEAN[channel]) / IMAGENET_DEVIATION[channel]
        torch.testing.assert_close(shown[:, channel], torch.full((2, side, side), expected))
