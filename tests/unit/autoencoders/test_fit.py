import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalegan.autoencoders.files import STATISTICS
from scalegan.autoencoders.fit import (
    Fit,
    Fitted,
    build_network,
    check_side,
    measure_latents,
    rate,
    save_autoencoder,
    split,
)
from scalegan.autoencoders.kl import kl
from scalegan.autoencoders.similarity import psnr, ssim
from scalegan.config.auxiliary import FitConfig
from scalegan.errors import ConfigError, DataError
from scalegan.runtime.files import atomic_folder, damage
from tests.support.latents import config

SMALL = FitConfig(factor=2, channels=2, width=8, batch_size=8, held_out=0.2)


def parts(images: torch.Tensor, settings: FitConfig) -> tuple[torch.Tensor, torch.Tensor]:
    train, held_out = split(len(images), settings)
    return images[train], images[held_out]


def fit(images: torch.Tensor, settings: FitConfig, num_steps: int, channels: int = 3) -> Fitted:
    """A whole training, each batch drawn by its step."""
    train, held_out = parts(images, settings)
    run = Fit(settings, channels, num_steps)
    for step in range(num_steps):
        rng = torch.Generator().manual_seed(step)
        run.update(train[torch.randint(len(train), (settings.batch_size,), generator=rng)])
    return run.finish(train, held_out)


def smooth(count: int = 40, side: int = 8, channels: int = 3) -> torch.Tensor:
    """Images that a small network can learn: colored slopes."""
    rng = torch.Generator().manual_seed(1)
    ends = torch.rand(count, channels, 2, 2, generator=rng)
    images = torch.nn.functional.interpolate(ends, side, mode="bilinear", align_corners=True)
    return (images * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()


def test_it_learns_and_is_measured_on_what_it_has_not_seen(tmp_path: Path) -> None:
    images = smooth(200)
    quick = replace(SMALL, learning_rate=5e-3, channels=4)
    after = fit(images, quick, 300)
    train, held_out = (part.float() / 255 for part in parts(images, quick))
    mean = train.mean(dim=0).expand_as(held_out)
    assert after.quality.psnr > psnr(mean, held_out).mean() + 4
    assert after.quality.ssim > ssim(mean, held_out).mean() + 0.4
    assert after.quality.num_images == 40
    save_autoencoder(tmp_path, after, quick, 300)
    autoencoder = kl(config(tmp_path, store="mean"), 3, 8)
    held_out = parts(images, quick)[1]
    made = autoencoder.decode(autoencoder.sample(autoencoder.encode(held_out)))
    found = psnr(made.float() / 255, held_out.float() / 255).mean().item()
    assert found == pytest.approx(after.quality.psnr, abs=0.02)


def test_latents_have_unit_scale_once_saved(tmp_path: Path) -> None:
    images = smooth(100)
    with atomic_folder(tmp_path / "out") as draft:
        save_autoencoder(draft, fit(images, SMALL, 20), SMALL, 20)
    assert damage(tmp_path / "out") is None
    autoencoder = kl(config(tmp_path / "out"), 3, 8)
    samples = autoencoder.sample(autoencoder.encode(parts(images, SMALL)[0])).transpose(0, 1)
    assert samples.flatten(1).mean(dim=1).abs().max() < 0.05
    assert samples.flatten(1).std(dim=1).tolist() == pytest.approx([1, 1], abs=0.05)
    statistics = json.loads((tmp_path / "out" / STATISTICS).read_text())
    assert statistics["settings"] == vars(SMALL) and statistics["psnr_db"] > 0


def test_statistics_count_the_spread_within_each_distribution() -> None:
    """Law of total variance, against samples."""
    torch.manual_seed(0)
    network, images = build_network(SMALL, 3).eval(), smooth(48, 8)
    torch.nn.init.zeros_(network.quant_conv.bias)
    mean, deviation = measure_latents(network, images)
    with torch.no_grad():
        posterior = network.encode(images / 127.5 - 1).latent_dist
        drawn = torch.cat([posterior.sample() for _ in range(8)])
    drawn = drawn.transpose(0, 1).flatten(1)
    assert posterior.std.mean() > 0.5  # or the test would not see it
    assert torch.allclose(drawn.mean(dim=1), mean, atol=0.03)
    assert torch.allclose(drawn.std(dim=1), deviation, rtol=0.02)


def test_the_seed_decides_and_nothing_else() -> None:
    images = smooth()
    torch.manual_seed(1)
    first = fit(images, SMALL, 3)
    torch.manual_seed(2)
    again = fit(images, SMALL, 3)
    other = fit(images, replace(SMALL, seed=1), 3)
    pairs = zip(first.network.parameters(), again.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.mean, other.mean)
    assert torch.equal(first.mean, again.mean) and first.quality == again.quality


def test_gray_images_make_a_network_of_one_channel() -> None:
    fitted = fit(smooth(channels=1), SMALL, 1, channels=1)
    assert fitted.network.config.in_channels == fitted.network.config.out_channels == 1


@pytest.mark.parametrize(("factor", "width"), [(2, 8), (4, 16), (8, 8), (16, 24)])
def test_every_factor_builds(factor: int, width: int) -> None:
    network = build_network(replace(SMALL, factor=factor, width=width), 3)
    autoencoder = network.eval().requires_grad_(False)
    latents = autoencoder.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mean
    assert latents.shape == (1, 2, 32 // factor, 32 // factor)
    assert autoencoder.decode(latents).sample.shape == (1, 3, 32, 32)


def test_every_term_is_told_and_the_discriminator_waits_for_its_half() -> None:
    settings = replace(SMALL, adversarial=0.1, lpips=3.0)
    run = Fit(settings, 3, 3, perceptual=lambda a, b: (a - b).square().flatten(1).mean(dim=1))
    twin = Fit(replace(settings, lpips=1.0), 3, 3, perceptual=run.perceptual)
    first, second = run.update(smooth(8)), run.update(smooth(8))
    assert first.keys() == {"l1", "structure", "kl", "lpips"}
    assert second.keys() == {"l1", "structure", "kl", "lpips", "adversarial"}
    assert first["lpips"] == pytest.approx(3 * twin.update(smooth(8))["lpips"].item())


def test_a_discriminator_changes_the_result_and_only_if_asked_for() -> None:
    plain = fit(smooth(), SMALL, 6)
    judged = fit(smooth(), replace(SMALL, adversarial=1.0), 6)
    pairs = zip(plain.network.parameters(), judged.network.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_the_rate_rises_then_falls() -> None:
    rates = [rate(step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] < 0.001
    assert rate(0, 1) == 1


def test_held_out_images_are_not_trained_on() -> None:
    train, held_out = (set(part.tolist()) for part in split(40, SMALL))
    assert (len(train), len(held_out)) == (32, 8) and train | held_out == set(range(40))
    assert [len(part) for part in split(2, SMALL)] == [1, 1]
    assert len(split(10_000, SMALL)[1]) == 512  # more are not looked at


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^images of 8x8 do not fit an autoencoder of fac"):
        check_side(8, 16)
    with pytest.raises(DataError, match=r"^there is 1 image; expected two at least$"):
        split(1, SMALL)
