"""KL autoencoders and what all autoencoders with a network share."""

import json
from pathlib import Path

import pytest
import torch

from scalegan.autoencoders.files import STATISTICS
from scalegan.autoencoders.kl import kl
from scalegan.errors import CheckpointError, ConfigError
from scalegan.interfaces import Autoencoder
from scalegan.runtime.files import load_tensors, save_tensors
from tests.support.latents import config, save_kl
from tests.support.latents import images as inputs

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_kl(tmp_path_factory.mktemp("kl"), scaling_factor=0.18215)


def test_it_is_an_autoencoder(folder: Path) -> None:
    autoencoder = kl(config(folder), 3, 16)
    assert isinstance(autoencoder, Autoencoder) and autoencoder.shape == (3, 4, 4)


def test_moments_are_the_networks_own(folder: Path) -> None:
    from diffusers import AutoencoderKL

    network, images = AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False), inputs()
    autoencoder = kl(config(folder), 3, 16)
    stored = autoencoder.encode(images)
    assert stored.shape == (4, 6, 4, 4) and stored.dtype == torch.float16
    with torch.no_grad():
        posterior = network.encode(images.float() / 127.5 - 1).latent_dist
        expected = torch.cat([posterior.mean, posterior.std], dim=1)
        assert torch.allclose(stored.float(), expected, rtol=1e-3, atol=1e-4)
        torch.manual_seed(3)
        samples = autoencoder.sample(stored)
        torch.manual_seed(3)
        noise = torch.randn(4, 3, 4, 4)
        by_hand = (stored[:, :3].float() + stored[:, 3:].float() * noise) * 0.18215
        assert torch.allclose(samples, by_hand)
        decoded = network.decode(samples / 0.18215).sample
        expected = ((decoded + 1) * 127.5).round().clamp(0, 255)
    images = autoencoder.decode(samples)
    assert images.dtype == torch.uint8 and (images.float() - expected).abs().max() <= 1


def test_moments_are_drawn_anew_and_means_are_not(folder: Path) -> None:
    moments = kl(config(folder), 3, 16)
    stored = moments.encode(inputs())
    assert not torch.equal(moments.sample(stored), moments.sample(stored))
    means = kl(config(folder, store="mean"), 3, 16)
    kept = means.encode(inputs())
    assert torch.equal(kept, stored[:, :3])
    before = torch.get_rng_state()
    assert torch.equal(means.sample(kept), means.sample(kept))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_a_image_does_not_depend_on_its_batch(folder: Path, batch_size: int) -> None:
    autoencoder = kl(config(folder, store="mean"), 3, 64)
    images = inputs(19, 64)
    stored = autoencoder.encode(images)
    assert torch.equal(torch.cat([autoencoder.encode(p) for p in images.split(batch_size)]), stored)
    samples = autoencoder.sample(stored)
    parts = torch.cat([autoencoder.decode(p) for p in samples.split(batch_size)])
    assert torch.equal(parts, autoencoder.decode(samples))


def test_no_images_are_no_latents(folder: Path) -> None:
    autoencoder = kl(config(folder), 3, 16)
    assert autoencoder.encode(inputs()[:0]).shape == (0, 6, 4, 4)
    assert autoencoder.decode(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 16, 16)


def test_nothing_of_it_is_trained(folder: Path) -> None:
    autoencoder = kl(config(folder), 3, 16)
    network = autoencoder.codec.network
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert not autoencoder.decode(torch.zeros(1, 3, 4, 4, requires_grad=True)).requires_grad


def test_a_network_for_gray_images(tmp_path: Path) -> None:
    autoencoder = kl(config(save_kl(tmp_path, image_channels=1)), 1, 16)
    images = autoencoder.decode(autoencoder.sample(autoencoder.encode(inputs(is_gray=True))))
    assert images.shape == (4, 3, 16, 16) and torch.equal(images[:, 0], images[:, 2])
    with pytest.raises(ConfigError, match=r"^the autoencoder was made for gray images"):
        kl(config(tmp_path), 3, 16)


def test_normalization_of_the_config(tmp_path: Path) -> None:
    plain = kl(config(save_kl(tmp_path / "a", scaling_factor=0.5, shift_factor=2.0)), 3, 16)
    stored = torch.full((1, 6, 4, 4), 3.0)
    stored[:, 3:] = 0
    assert plain.sample(stored).unique().tolist() == [0.5]
    mean, std = [1.0, 2.0, 3.0], [0.5, 1.0, 2.0]
    folder = save_kl(tmp_path / "b", scaling_factor=0.5, latents_mean=mean, latents_std=std)
    assert kl(config(folder), 3, 16).sample(stored)[0, :, 0, 0].tolist() == [2.0, 0.5, 0.0]


def test_statistics_beside_the_weights_go_before_the_config(tmp_path: Path) -> None:
    folder = save_kl(tmp_path, scaling_factor=0.5)
    statistics = {"mean": [1, 1, 3], "std": [1, 2, 4]}
    (folder / STATISTICS).write_text(json.dumps(statistics))
    autoencoder = kl(config(folder), 3, 16)
    stored = torch.full((1, 6, 4, 4), 3.0)
    stored[:, 3:] = 0
    assert autoencoder.sample(stored)[0, :, 0, 0].tolist() == [2.0, 1.0, 0.0]
    assert autoencoder.identity()["shift"] == [1, 1, 3]


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"mean": [0, 0], "std": [1, 1]}', '{"mean": [0, 0, 0], "std": [1, 0, 1]}',
             '{"mean": "none", "std": [1, 1, 1]}', "[1]"],
)  # fmt: skip
def test_unusable_statistics_are_refused(folder: Path, tmp_path: Path, text: str) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / STATISTICS).write_text(text)
    with pytest.raises(CheckpointError, match=STATISTICS):
        kl(config(tmp_path), 3, 16)


def test_identity_is_of_weights_and_scale_not_of_the_folder(folder: Path, tmp_path: Path) -> None:
    identity = kl(config(folder), 3, 16).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert (identity["kind"], identity["channels"], identity["factor"]) == ("kl", 3, 4)
    assert identity["scale"] == [pytest.approx(0.18215)] * 3 and identity["store"] == "moments"
    same = save_kl(tmp_path / "same", scaling_factor=0.18215, sample_size=77)
    assert kl(config(same), 3, 16).identity() == identity
    for name, values in (("seed", {"seed": 1}), ("scale", {"scaling_factor": 0.5})):
        other = save_kl(tmp_path / name, **{"scaling_factor": 0.18215, **values})
        assert kl(config(other), 3, 16).identity() != identity
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_tensors(folder / WEIGHTS)
    name = min(tensors)
    tensors[name].view(-1)[0] += 1e-6
    save_tensors(tensors, tmp_path / "one" / WEIGHTS)
    assert kl(config(tmp_path / "one"), 3, 16).identity()["weights"] != identity["weights"]


def test_old_names_of_attention_are_understood(tmp_path: Path) -> None:
    """As in stabilityai/sd-vae-ft-mse, which was saved by diffusers 0.4."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path)
    before = kl(config(tmp_path), 3, 8).identity()
    tensors = load_tensors(tmp_path / WEIGHTS)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        tensors = {
            key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): value
            for key, value in tensors.items()
        }
    assert any("proj_attn" in key for key in tensors)
    save_tensors(tensors, tmp_path / WEIGHTS)
    assert kl(config(tmp_path), 3, 8).identity() == before


def test_images_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        kl(config(folder), 3, 18)
    assert str(caught.value) == "images of 18x18 do not fit an autoencoder of factor 4"
