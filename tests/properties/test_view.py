"""A view called twice is the same view, and it fits images of any side."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scalegan.config.objective import AugmentConfig
from scalegan.losses.mng import noise_schedule
from scalegan.losses.view import draw_view

SHARE = st.floats(0, 1)
CONFIGS = st.builds(
    AugmentConfig, color=SHARE, translation=st.floats(0, 0.9), cutout=SHARE, flip=SHARE
)


@settings(max_examples=50, deadline=None)
@given(
    CONFIGS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.data()
)
def test_repeated(
    config: AugmentConfig,
    count: int,
    num_levels: int,
    side: int,
    channels: int,
    data: st.DataObject,
) -> None:
    given_levels = data.draw(st.sampled_from([1, num_levels]))
    samples = torch.randn(count, given_levels, channels, side, side)
    noise_levels = noise_schedule(num_levels, 0.125, 0.01)
    view = draw_view(samples, noise_levels, config)
    shown = view(samples)
    assert shown.shape == (count, num_levels, channels, side, side) and shown.isfinite().all()
    torch.randn(3)
    assert torch.equal(view(samples), shown)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 0.9), SHARE, st.integers(1, 8), st.sampled_from([3, 5, 7]), st.integers(0, 99))
def test_a_image_moves_by_the_same_fraction(
    translation: float, flip: float, side: int, factor: int, seed: int
) -> None:
    torch.manual_seed(seed)
    samples = torch.rand(4, 1, 3, side, side)
    config = AugmentConfig(color=0.0, translation=translation, cutout=0.0, flip=flip)
    view = draw_view(samples, torch.zeros(1), config)
    images = samples[:, 0].repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    moved = view.on_images(images)[..., factor // 2 :: factor, factor // 2 :: factor]
    assert torch.equal(moved, view(samples)[:, 0])
