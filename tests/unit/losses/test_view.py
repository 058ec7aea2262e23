from dataclasses import replace

import pytest
import torch

from scalegan.config.objective import AugmentConfig
from scalegan.losses.mng import noise_schedule
from scalegan.losses.view import View, draw_view

NOISE = noise_schedule(4, 0.125, 0.01)
NO_NOISE = torch.zeros(4)
OFF = AugmentConfig(color=0.0, translation=0.0, cutout=0.0, flip=0.0)
ALL = AugmentConfig(color=1.0, translation=0.25, cutout=0.5, flip=0.5)


def view(samples: torch.Tensor, config: AugmentConfig, noise_levels: torch.Tensor = NOISE) -> View:
    torch.manual_seed(0)
    return draw_view(samples, noise_levels, config)


def test_called_twice_is_the_same_view() -> None:
    samples = torch.randn(3, 4, 2, 8, 8)
    of_them = view(samples, ALL)
    first = of_them(samples)
    torch.randn(7)
    assert torch.equal(of_them(samples), first)


def test_two_views_differ() -> None:
    samples = torch.randn(3, 4, 2, 8, 8)
    assert not torch.equal(
        draw_view(samples, NOISE, ALL)(samples),
        draw_view(samples, NOISE, ALL)(samples),
    )


def test_one_level_stands_for_all() -> None:
    real = torch.randn(3, 1, 2, 8, 8)
    of_it = view(real, ALL)
    shown = of_it(real)
    assert shown.shape == (3, 4, 2, 8, 8)
    torch.testing.assert_close(shown, of_it(real.expand(-1, 4, -1, -1, -1)))


def test_everything_off_shows_the_samples() -> None:
    samples = torch.randn(3, 4, 2, 8, 8)
    assert torch.equal(view(samples, OFF, NO_NOISE)(samples), samples)


def test_noise_alone_mixes_each_level_by_its_noise_level() -> None:
    samples = torch.randn(3, 4, 2, 8, 8)
    of_them = view(samples, OFF)
    kept = (1 - NOISE).float().view(4, 1, 1, 1)
    torch.testing.assert_close(
        of_them(samples) - of_them(torch.zeros_like(samples)), samples * kept
    )


def test_noise_comes_after_augmentation() -> None:
    of_them = view(torch.ones(64, 4, 1, 8, 8), AugmentConfig(cutout=1.0))
    assert of_them.warp.visible.mean() < 1  # something is cut out, and yet:
    assert (of_them(torch.ones(64, 4, 1, 8, 8)) != 0).all()


def test_color_pulls_every_level_towards_the_means_of_the_last() -> None:
    samples = torch.randn(2, 4, 3, 4, 4)
    of_them = view(
        samples, AugmentConfig(color=1.0, translation=0.0, cutout=0.0, flip=0.0), NO_NOISE
    )
    moved = samples.clone()
    moved[:, :3] += 1  # the means are those of the draw, in every repetition
    assert torch.equal(of_them.means[0], samples[:, 3].mean(dim=1, keepdim=True))
    difference = of_them(moved) - of_them(samples)
    assert not difference[:, 3].any()
    scale = 2 * of_them.draws.saturation * (of_them.draws.contrast + 0.5)
    expected = scale.view(2, 1, 1, 1, 1).expand(-1, 3, 3, 4, 4)
    torch.testing.assert_close(difference[:, :3], expected)


def test_levels_of_a_sample_move_together() -> None:
    same = torch.randn(5, 1, 1, 8, 8).expand(-1, 4, -1, -1, -1)
    shown = view(same, ALL, NO_NOISE)(same)
    assert torch.equal(shown, shown[:, :1].expand_as(shown))


def test_images_move_by_the_same_fraction_of_their_side() -> None:
    latents = torch.rand(32, 1, 3, 8, 8)
    of_them = view(
        latents, AugmentConfig(color=0.0, translation=0.25, cutout=0.0, flip=0.5), NO_NOISE
    )
    images = latents[:, 0].repeat_interleave(7, -2).repeat_interleave(7, -1)  # side 56
    shown = of_them(latents)[:, 3]
    assert torch.equal(of_them.on_images(images)[..., 3::7, 3::7], shown)
    assert not torch.equal(of_them.on_images(images, official=True)[..., 3::7, 3::7], shown)


def test_images_are_neither_colored_nor_cut() -> None:
    samples = torch.randn(4, 1, 1, 8, 8)
    of_them = view(samples, AugmentConfig(color=1.0, translation=0.0, cutout=0.5, flip=0.0))
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(of_them.on_images(images), images)


def test_levels_that_fit_neither_one_nor_all_are_refused() -> None:
    samples = torch.randn(2, 3, 1, 8, 8)
    with pytest.raises((RuntimeError, TypeError)):
        view(samples, OFF)(samples)


def test_colors_that_change_in_turn_end_with_the_brightness() -> None:
    samples = torch.randn(3, 1, 3, 8, 8)
    config = AugmentConfig(color=1.0, translation=0.0, cutout=0.0, flip=0.0)
    of_them = view(samples, config, torch.zeros(1))
    in_turn = view(samples, replace(config, in_turn=True), torch.zeros(1))
    mean = in_turn(samples).mean(dim=(1, 2, 3, 4))
    brightness = of_them.draws.brightness - 0.5
    torch.testing.assert_close(mean, samples.mean(dim=(1, 2, 3, 4)) + brightness)
    assert not torch.allclose(of_them(samples), in_turn(samples))
