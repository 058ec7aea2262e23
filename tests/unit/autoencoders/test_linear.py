"""The linear autoencoder: the best linear map, exact where nothing is left out, saved and found."""

from pathlib import Path

import pytest
import torch

from scalegan.autoencoders.latents import Latents
from scalegan.autoencoders.linear import codec_of, divisors, fit_linear, save_linear
from scalegan.autoencoders.tables import make_autoencoder, named
from scalegan.config.auxiliary import FitConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.train.autoencoder import train_autoencoder


def smooth(count: int = 40, side: int = 16) -> torch.Tensor:
    """Images that patches of few components describe well, but not exactly."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (images * 255 + 8 * torch.rand(images.shape, generator=rng)).clamp(0, 255).byte()


def made(images: torch.Tensor, channels: int, whitening: float = 0.5) -> Latents:
    network, deviations = fit_linear(images.split(7), 3, 4, channels)
    scale = divisors(deviations, whitening)
    codec = codec_of(network, torch.zeros_like(scale), 1 / scale)
    return Latents(codec, "mean", 3, images.shape[-1])


def mean_square_error(autoencoder: Latents, images: torch.Tensor) -> float:
    again = autoencoder.decode(autoencoder.sample(autoencoder.encode(images)))
    return (again.float() - images.float()).square().mean().item()


def test_with_all_components_nothing_is_lost() -> None:
    images = smooth()
    assert mean_square_error(made(images, 48), images) < 0.3  # float16 and rounding


def test_fewer_components_lose_what_their_variances_say() -> None:
    images = smooth()
    _, deviations = fit_linear([images], 3, 4, 48)
    left_out = deviations[12:].square().sum().item() / 48 * 127.5**2
    assert mean_square_error(made(images, 12), images) == pytest.approx(left_out, rel=0.2)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_samples_have_unit_scale_and_channels_are_as_strong_as_asked(whitening: float) -> None:
    images = smooth()
    autoencoder = made(images, 12, whitening)
    samples = autoencoder.sample(autoencoder.encode(images)).transpose(0, 1).flatten(1)
    strength = samples.std(dim=1)
    assert samples.square().mean().item() == pytest.approx(1.0, rel=0.05)
    _, deviations = fit_linear([images], 3, 4, 12)
    expected = deviations ** (1 - whitening)
    torch.testing.assert_close(strength / strength[0], expected / expected[0], rtol=0.03, atol=0)


def test_components_are_orthonormal_and_the_same_for_any_parts() -> None:
    images = smooth()
    network, deviations = fit_linear([images], 3, 4, 12)
    flat = network.components.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(12), atol=1e-5, rtol=0)
    assert (deviations.diff() <= 0).all()
    other, _ = fit_linear(images.split(3), 3, 4, 12)
    torch.testing.assert_close(other.components, network.components, atol=1e-4, rtol=0)


def test_more_components_than_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="a patch of 4x4 has 48 numbers"):
        fit_linear([smooth()], 3, 4, 49)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    images = smooth()
    network, deviations = fit_linear([images], 3, 4, 12)
    save_linear(tmp_path, network, divisors(deviations, 0.5), {})
    config = named(str(tmp_path))
    assert config.kind == "linear"
    again, first = make_autoencoder(config, 3, 16), made(images, 12)
    assert torch.equal(again.encode(images), first.encode(images))
    assert again.identity()["kind"] == "linear" and again.shape == (12, 4, 4)


@pytest.mark.parametrize("gray", [False, True])
def test_the_command_measures_held_out_images(gray: bool, tmp_path: Path) -> None:
    import numpy as np

    images = smooth(60).permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "images.npz", images[..., :1] if gray else images, np.zeros(60, int))
    config = FitConfig(kind="linear", factor=4, channels=10, held_out=0.2)
    out = tmp_path / "linear"
    assert train_autoencoder(f"npz:{tmp_path / 'images.npz'}", out, config) is None
    autoencoder = make_autoencoder(named(str(out)), 1 if gray else 3, 16)
    assert autoencoder.identity()["image_channels"] == (1 if gray else 3)
    with pytest.raises(ConfigError, match="holds a finished autoencoder"):
        train_autoencoder(f"npz:{tmp_path / 'images.npz'}", out, config)


def test_settings_of_a_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="`width` is set but a linear autoencoder is not trained"):
        FitConfig(kind="linear", width=64).check()
    with pytest.raises(ConfigError, match="`whitening` is set"):
        FitConfig(whitening=1.0).check()


def test_files_without_statistics_are_refused(tmp_path: Path) -> None:
    network, deviations = fit_linear([smooth()], 3, 4, 12)
    save_linear(tmp_path, network, deviations, {})
    (tmp_path / "latent_stats.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no `latent_stats\.json`"):
        make_autoencoder(named(str(tmp_path)), 3, 16)
