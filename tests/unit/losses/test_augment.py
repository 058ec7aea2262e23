from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scalegan.losses import augment
from scalegan.losses.augment import Draws


def still(count: int = 1, side: int = 4, **changes: list[float] | list[int]) -> Draws:
    """Draws that move nothing and change no color, but for what is named."""
    floats = {"brightness": 0.5, "saturation": 0.5, "contrast": 0.5, "color_gate": 0.0, "flip": 1.0}
    draws = Draws(
        side=side,
        **{name: torch.full((count,), value) for name, value in floats.items()},
        **{name: torch.zeros(count, dtype=torch.int64) for name in
           ("shift_h", "shift_w", "cut_h", "cut_w")},
    )  # fmt: skip
    return replace(draws, **{name: torch.tensor(value) for name, value in changes.items()})


def apply(x: Tensor, draws: Draws, shift: bool, cutout: float, flip: float) -> Tensor:
    """One image (H, W) through a warp."""
    by = augment.make_warp(draws, x.shape[-1], shift, cutout, flip)
    return augment.apply_warp(x[None, None, None], by)[0, 0, 0]


SQUARE = torch.arange(1.0, 17.0).view(4, 4)


@pytest.mark.parametrize(
    ("fraction", "side", "expected"), [(0.125, 32, 4), (0.125, 8, 1), (0.125, 4, 1), (0.5, 5, 3)]
)
def test_pixels_rounds_halves_up(fraction: float, side: int, expected: int) -> None:
    assert augment.pixels(fraction, side) == expected


@pytest.mark.parametrize(("cutout", "last_center"), [(0.5, 16), (0.3, 15)])
def test_draws_cover_their_ranges_and_no_more(cutout: float, last_center: int) -> None:
    torch.manual_seed(0)  # squares of 8 and of 5 pixels
    draws = augment.draw_augmentation(3000, 16, 0.125, cutout, torch.device("cpu"))
    for shifts in (draws.shift_h, draws.shift_w):
        assert shifts.unique().tolist() == [-2, -1, 0, 1, 2]
    for centers in (draws.cut_h, draws.cut_w):
        assert centers.unique().tolist() == list(range(last_center + 1))
    for uniform in (
        draws.brightness,
        draws.saturation,
        draws.contrast,
        draws.color_gate,
        draws.flip,
    ):
        assert uniform.min() >= 0 and uniform.max() < 1
        assert uniform.mean().item() == pytest.approx(0.5, abs=0.03)


def test_color_by_hand() -> None:
    x = torch.tensor([0.2, 0.6]).view(1, 1, 2, 1, 1)  # two channels of one pixel, mean 0.4
    draws = still(brightness=[0.75], saturation=[0.25], contrast=[1.0])
    means = augment.color_means(x[:, -1])
    # brighter by 0.25: 0.45, 0.85; saturation halves the way to 0.4: 0.425, 0.625;
    # contrast makes the way from 0.4 one and a half times as long.
    expected = torch.tensor([0.4375, 0.7375])
    torch.testing.assert_close(augment.color(x, draws, 1.0, means).flatten(), expected)


@given(st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=3, max_size=3))
def test_changes_in_turn_start_from_what_the_one_before_has_left(uniform: list[float]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 1, 3, 4, 4)
    names = ("brightness", "saturation", "contrast")
    draws = still(2, **{name: [u] * 2 for name, u in zip(names, uniform, strict=True)})
    brightness, saturation, contrast = uniform
    expected = x + (brightness - 0.5)
    gray = expected.mean(dim=2, keepdim=True)
    expected = (expected - gray) * (2 * saturation) + gray
    mean = expected.mean(dim=(2, 3, 4), keepdim=True)
    expected = (expected - mean) * (contrast + 0.5) + mean
    found = augment.color(x, draws, 1.0, augment.color_means(x[:, -1]), in_turn=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_color_means_are_of_channels_and_of_everything() -> None:
    x = torch.arange(8.0).view(1, 2, 2, 2)
    gray, mean = augment.color_means(x)
    assert torch.equal(gray[0, 0], torch.tensor([[2.0, 3.0], [4.0, 5.0]]))
    assert mean.shape == (1, 1, 1, 1) and mean.item() == 3.5


def test_color_changes_those_below_the_probability() -> None:
    x = torch.rand(3, 2, 1, 2, 2)
    draws = still(3, brightness=[0.9] * 3, color_gate=[0.0, 0.4, 0.5])
    changed = augment.color(x, draws, 0.5, augment.color_means(x[:, -1]))
    torch.testing.assert_close(changed[:2], x[:2] + 0.4)
    assert torch.equal(changed[2], x[2])
    assert torch.equal(augment.color(x, draws, 0.0, augment.color_means(x[:, -1])), x)


def test_gradients_flow_through_the_color_means() -> None:
    x = torch.rand(1, 1, 1, 2, 2, requires_grad=True)
    draws = still(contrast=[0.0])  # half the contrast: x becomes (x + mean) / 2
    augment.color(x, draws, 1.0, augment.color_means(x[:, -1]))[0, 0, 0, 0, 0].backward()
    expected = torch.tensor([[0.5 + 0.125, 0.125], [0.125, 0.125]])
    torch.testing.assert_close(x.grad[0, 0, 0], expected)


def test_shift_looks_up_below_and_to_the_right() -> None:
    shifted = apply(SQUARE, still(shift_h=[1], shift_w=[-2]), True, 0.0, 0.0)
    expected = torch.tensor([[0, 0, 5, 6], [0, 0, 9, 10], [0, 0, 13, 14], [0, 0, 0, 0.0]])
    assert torch.equal(shifted, expected)


def test_cutout_by_hand() -> None:
    # A square of 2 around the place between pixels 0 and 1, and 2 and 3.
    cut = apply(SQUARE, still(cut_h=[1], cut_w=[3]), False, 0.5, 0.0)
    expected = SQUARE.clone()
    expected[0:2, 2:4] = 0
    assert torch.equal(cut, expected)


def test_cutout_is_clamped_into_the_image() -> None:
    cut = apply(SQUARE, still(cut_h=[0], cut_w=[4]), False, 0.5, 0.0)
    expected = SQUARE.clone()
    expected[0, 3] = 0
    assert torch.equal(cut, expected)


def test_flip_mirrors_those_below_the_probability() -> None:
    assert torch.equal(apply(SQUARE, still(flip=[0.39]), False, 0.0, 0.4), SQUARE.flip(1))
    assert torch.equal(apply(SQUARE, still(flip=[0.4]), False, 0.0, 0.4), SQUARE)


def test_everything_off_is_the_identity() -> None:
    draws = still(shift_h=[1], shift_w=[1], flip=[0.0])
    assert torch.equal(apply(SQUARE, draws, False, 0.0, 0.0), SQUARE)


@pytest.mark.parametrize("side", [7, 8])
def test_a_warp_is_shift_then_cutout_then_flip(side: int) -> None:
    torch.manual_seed(side)
    draws = augment.draw_augmentation(40, side, 0.3, 0.5, torch.device("cpu"))
    x = torch.rand(40, 2, 1, side, side)
    moved = augment.apply_warp(x, augment.make_warp(draws, side, True, 0.5, 0.4))
    size = int(0.5 * side + 0.5)
    for n in range(40):
        expected = torch.zeros(2, side, side)
        for i in range(side):
            for j in range(side):
                a, b = i + int(draws.shift_h[n]), j + int(draws.shift_w[n])
                if 0 <= a < side and 0 <= b < side:
                    expected[:, i, j] = x[n, :, 0, a, b]
        for i in range(size):
            for j in range(size):
                a, b = int(draws.cut_h[n]) - size // 2 + i, int(draws.cut_w[n]) - size // 2 + j
                expected[:, min(max(a, 0), side - 1), min(max(b, 0), side - 1)] = 0
        expected = expected.flip(2) if draws.flip[n] < 0.4 else expected
        assert torch.equal(moved[n, :, 0], expected)


def test_a_warp_of_a_larger_image_is_the_same_fraction() -> None:
    torch.manual_seed(0)
    draws = augment.draw_augmentation(16, 8, 0.25, 0.5, torch.device("cpu"))
    small = torch.rand(16, 1, 1, 8, 8)
    large = small.repeat_interleave(7, -2).repeat_interleave(7, -1)
    moved_small = augment.apply_warp(small, augment.make_warp(draws, 8, True, 0.0, 0.5))
    moved_large = augment.apply_warp(large, augment.make_warp(draws, 56, True, 0.0, 0.5))
    assert torch.equal(moved_large[..., 3::7, 3::7], moved_small)


def test_inverse_ratio_differs_only_at_another_side() -> None:
    draws = still(side=32, shift_h=[4], shift_w=[-4])
    here = [
        augment.make_warp(draws, 32, True, 0.0, 0.0, inverse_ratio=wrong) for wrong in (False, True)
    ]
    assert torch.equal(here[0].source, here[1].source)
    x = torch.zeros(1, 1, 1, 224, 224)
    x[..., 100, 100] = 1
    warps = [
        augment.make_warp(draws, 224, True, 0.0, 0.0, inverse_ratio=official)
        for official in (False, True)
    ]
    right, wrong = (augment.apply_warp(x, warp)[0, 0, 0] for warp in warps)
    assert right.nonzero().tolist() == [[72, 128]]  # 28 pixels: an eighth of 224
    assert wrong.nonzero().tolist() == [[100, 101]]  # floor(4 / 7) = 0, floor(-4 / 7) = -1
