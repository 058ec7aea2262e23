from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scalegan.autoencoders.similarity import psnr
from scalegan.autoencoders.tiny import TAEF2, taef2, tiny
from scalegan.errors import CheckpointError
from scalegan.interfaces import Autoencoder
from scalegan.runtime.files import save_tensors
from tests.support import latents
from tests.support.latents import config, save_tiny
from tests.support.latents import images as inputs

PHOTOS = latents.SHARED / "data" / "imagenet_sample"
needs_taef2 = pytest.mark.skipif(not latents.TAEF2.is_dir(), reason=latents.WHY)
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"`{PHOTOS}` is not here")


def test_tiny_is_diffusers_own(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    autoencoder = tiny(config(save_tiny(tmp_path), "tiny"), 3, 16)
    assert isinstance(autoencoder, Autoencoder) and autoencoder.shape == (5, 4, 4)
    network = AutoencoderTiny.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    stored = autoencoder.encode(inputs())
    assert stored.dtype == torch.float16
    with torch.no_grad():
        expected = network.encode(inputs().float() / 127.5 - 1).latents
        assert torch.allclose(stored.float(), expected, rtol=1e-3, atol=1e-3)
        decoded = network.decode(autoencoder.sample(stored)).sample
    shown = ((decoded + 1) * 127.5).round().clamp(0, 255)
    images = autoencoder.decode(autoencoder.sample(stored))
    assert (images.float() - shown).abs().max() <= 1
    assert autoencoder.identity()["kind"] == "tiny"


def photo(path: Path, side: int) -> torch.Tensor:
    """As the weights' README prepared them: bicubic to the short side, center crop."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    scale = side / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous()


def decibels(paths: list[Path], side: int) -> torch.Tensor:
    autoencoder = taef2(config(latents.TAEF2, "taef2"), 3, side)
    found = []
    for path in paths:
        image = photo(path, side)
        made = autoencoder.decode(autoencoder.sample(autoencoder.encode(image)))
        found.append(psnr(made.float() / 255, image.float() / 255))
    return torch.cat(found)


@needs_taef2
def test_taef2_gives_the_recorded_values() -> None:
    network = taef2(config(latents.TAEF2, "taef2"), 3, 64).codec.network
    with np.load(latents.TAEF2 / "check.npz") as file:
        recorded = {name: torch.from_numpy(file[name]) for name in file.files}
    with torch.no_grad():
        found = network.encoder(recorded["image_u8"].permute(0, 3, 1, 2) / 255)
        assert torch.allclose(found, recorded["latent"], rtol=0, atol=1e-4)
        found = network.decoder(recorded["latent"])
        assert torch.allclose(found, recorded["recon"], rtol=0, atol=1e-4)
        found = network.decoder(recorded["latent_random"])
        assert torch.allclose(found, recorded["decoded_random"], rtol=0, atol=1e-4)


@needs_taef2
def test_taef2_through_the_interface() -> None:
    autoencoder = taef2(config(latents.TAEF2, "taef2"), 3, 64)
    assert isinstance(autoencoder, Autoencoder) and autoencoder.shape == (32, 8, 8)
    with np.load(latents.TAEF2 / "check.npz") as file:
        images = torch.from_numpy(file["image_u8"]).permute(0, 3, 1, 2).contiguous()
        expected = torch.from_numpy(file["recon"])
    made = autoencoder.decode(autoencoder.sample(autoencoder.encode(images)))
    # Latents rest in float16, hence one step of 255.
    assert (made / 255 - expected.clamp(0, 1)).abs().max() < 2.5 / 255


@needs_taef2
@needs_photos
def test_taef2_on_a_few_photos() -> None:
    paths = sorted(PHOTOS.glob("*/*.jpg"))[:2]
    autoencoder = taef2(config(latents.TAEF2, "taef2"), 3, 128)
    samples = autoencoder.sample(torch.cat([autoencoder.encode(photo(p, 128)) for p in paths]))
    assert samples.mean().abs() < 0.1 and 0.8 < samples.std() < 1.2
    # Of these two at 256 pixels; the mean of all 200 is the slow test's.
    assert decibels(paths, 256).mean().item() == pytest.approx(32.42, abs=0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_taef2
@needs_photos
def test_taef2_on_all_photos() -> None:
    found = decibels(sorted(PHOTOS.glob("*/*.jpg")), 256)
    assert len(found) == 200
    assert found.mean().item() == pytest.approx(29.326, abs=0.1)
    assert found.min().item() == pytest.approx(18.312, abs=0.1)
    assert found.max().item() == pytest.approx(41.058, abs=0.1)


def test_taef2_without_statistics_keeps_its_own_scale(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TAEF2()
    for part in ("encoder", "decoder"):
        tensors = getattr(network, part).half().state_dict()
        save_tensors(tensors, tmp_path / f"{part}.safetensors")
    autoencoder = taef2(config(tmp_path, "taef2"), 1, 16)
    stored = autoencoder.encode(inputs(1))
    assert stored.shape == (1, 32, 2, 2) and torch.equal(autoencoder.sample(stored), stored.float())
    assert {p.dtype for p in autoencoder.codec.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("change", ["missing", "unknown", "misshapen", "no file", "swapped"])
def test_taef2_of_other_weights_is_refused(tmp_path: Path, change: str) -> None:
    network = TAEF2()
    encoder, decoder = network.encoder.state_dict(), network.decoder.state_dict()
    if change == "missing":
        del decoder["5.pool.0.weight"]
    elif change == "unknown":
        decoder["99.weight"] = torch.zeros(1)
    elif change == "misshapen":
        decoder["1.weight"] = torch.zeros(64, 16, 3, 3)
    elif change == "swapped":
        encoder, decoder = decoder, encoder
    save_tensors(encoder, tmp_path / "encoder.safetensors")
    if change != "no file":
        save_tensors(decoder, tmp_path / "decoder.safetensors")
    with pytest.raises(CheckpointError, match=r"coder\.safetensors` has |^there is no `"):
        taef2(config(tmp_path, "taef2"), 3, 16)
