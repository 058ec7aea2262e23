import torch

from scalegan.autoencoders.pixels import Identity
from scalegan.interfaces import Autoencoder


def test_gray_is_exact() -> None:
    images = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16).expand(1, 3, -1, -1)
    autoencoder = Identity(1, 16)
    stored = autoencoder.encode(images)
    assert stored.shape == (1, 1, 16, 16) and stored.dtype == torch.uint8
    assert torch.equal(autoencoder.decode(autoencoder.sample(stored)), images)


def test_rgb_is_exact() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    autoencoder = Identity(3, 8)
    assert torch.equal(autoencoder.decode(autoencoder.sample(autoencoder.encode(images))), images)


def test_color_becomes_gray_by_its_luma() -> None:
    primaries = torch.zeros(4, 3, 1, 1, dtype=torch.uint8)
    primaries[0, 0] = primaries[1, 1] = primaries[2, 2] = primaries[3] = 255
    assert Identity(1, 1).encode(primaries).flatten().tolist() == [76, 150, 29, 255]


def test_samples_lie_between_minus_one_and_one() -> None:
    stored = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert Identity(1, 1).sample(stored).flatten().tolist() == [-1, 1]


def test_decode_rounds_and_clamps() -> None:
    samples = torch.tensor([-7.0, -1 + 0.6 / 127.5, 0.0, 1.0, 7.0]).view(5, 1, 1, 1)
    images = Identity(1, 1).decode(samples)
    assert images[:, 0].flatten().tolist() == [0, 1, 128, 255, 255]
    assert images.shape == (5, 3, 1, 1)


def test_latents_without_their_autoencoder_show_three_channels() -> None:
    samples = torch.tensor([-1.0, 0.0, 1.0, 0.3]).view(1, 4, 1, 1)
    assert Identity(4, 1).decode(samples).flatten().tolist() == [0, 128, 255]


def test_it_is_an_autoencoder() -> None:
    assert isinstance(Identity(4, 32), Autoencoder)
    assert Identity(4, 32).shape == (4, 32, 32)
