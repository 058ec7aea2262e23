"""Training of a small KL autoencoder on images: the first stage of latent models.

Source: the first stage of "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv
2112.10752: a reconstruction loss, a slight pull of the latents towards the standard normal (1e-6),
and, if asked for, a patch discriminator. The network is diffusers' AutoencoderKL.

The reconstruction loss is the mean absolute error plus 1 - SSIM over three scales, the mix that
"Loss Functions for Image Restoration with Neural Networks" (arXiv 1511.08861) found to look better
than either alone. Deviation: LPIPS, which the paper uses in place of SSIM, is a further term where
its trained weights are at hand (`perceptual`).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from scalegan.autoencoders.files import STATISTICS, WEIGHTS
from scalegan.autoencoders.kl import codec
from scalegan.autoencoders.latents import Codec, Latents
from scalegan.autoencoders.pixels import to_gray
from scalegan.autoencoders.similarity import dissimilarity, psnr, ssim
from scalegan.config.auxiliary import FitConfig
from scalegan.errors import ConfigError, DataError
from scalegan.interfaces import Images
from scalegan.runtime.files import write_json
from scalegan.runtime.rng import seed_all, stream

Perceptual = Callable[[Tensor, Tensor], Float[Tensor, " N"]]
"""Distance of two batches of images in [-1, 1]."""
MOST_MEASURED = 512
"""Images that quality, and those that statistics, are computed on at most."""


class Quality(NamedTuple):
    """How well images come back, measured after rounding to uint8."""

    psnr: float
    """Mean over images, dB."""
    ssim: float
    num_images: int


class Fitted(NamedTuple):
    """A trained autoencoder."""

    network: nn.Module
    quality: Quality
    """On images that were not trained on."""
    mean: Float[Tensor, " C"]
    deviation: Float[Tensor, " C"]
    """Of the latents, per channel, over training images."""


class Fit:
    """The training of one autoencoder: the same seed, images and device give the same weights.

    Attributes:
        networks: the autoencoder itself and, if there is an adversarial term, its discriminator.
        optimizers: one for each.
        step: updates so far.

    Args:
        config: sizes, rates and strengths; its `duration` and `size` are the caller's business.
        image_channels: 1 for gray images, 3 for color.
        num_steps: updates of the whole run.
        perceptual: a further term of strength `config.lpips`.
        device: "cpu", "cuda" or "cuda:1".
    """

    def __init__(
        self,
        config: FitConfig,
        image_channels: int,
        num_steps: int,
        perceptual: Perceptual | None = None,
        device: str = "cpu",
    ) -> None:
        self.config, self.num_steps, self.device = config, num_steps, device
        self.image_channels, self.perceptual = image_channels, perceptual
        self.step = 0
        seed_all(config.seed, "autoencoder", "init")
        self.networks: dict[str, Any] = {"network": build_network(config, image_channels)}
        if config.adversarial:
            self.networks["discriminator"] = PatchDiscriminator(image_channels, config.width)
        for network in self.networks.values():
            network.to(device)
        self.optimizers = {
            name: adam(network, config.learning_rate) for name, network in self.networks.items()
        }

    # min over the autoencoder, max over the discriminator D, of
    # L_rec(x, x') + adversarial * L_adv(D(x), D(x')) + kl * KL(q(z | x) || N(0, 1)), x' made of z;
    # arXiv 2112.10752, eq. (25), with the hinge loss in the second half of the run.
    def update(self, images: Images) -> dict[str, Tensor]:
        """Train one step on images, on the device; returns the mean of every loss term by name."""
        config, network = self.config, self.networks["network"]
        seed_all(config.seed, "autoencoder", self.step)
        real = (to_gray(images) if self.image_channels == 1 else images).float() / 127.5 - 1
        posterior = network.encode(real).latent_dist
        reconstructed = network.decode(posterior.sample()).sample
        losses = {
            "l1": (reconstructed - real).abs().flatten(1).mean(dim=1),
            "structure": config.structure * dissimilarity((reconstructed + 1) / 2, (real + 1) / 2),
            "kl": config.kl * posterior.kl(),
        }
        if self.perceptual:
            losses["lpips"] = config.lpips * self.perceptual(reconstructed, real)
        # Before the images resemble anything, a discriminator has nothing to teach.
        discriminator = (
            self.networks.get("discriminator") if self.step >= self.num_steps // 2 else None
        )
        if discriminator is not None:
            losses["adversarial"] = -config.adversarial * discriminator(reconstructed).flatten(
                1
            ).mean(dim=1)
        means = {name: value.mean() for name, value in losses.items()}
        self._move("network", torch.stack(list(means.values())).sum())
        if discriminator is not None:
            hinge = (
                F.relu(1 - discriminator(real)).mean()
                + F.relu(1 + discriminator(reconstructed.detach())).mean()
            )
            self._move("discriminator", hinge)
        self.step += 1
        return {name: value.detach() for name, value in means.items()}

    def finish(self, train: UInt8[Tensor, "M 3 P P"], held_out: UInt8[Tensor, "K 3 P P"]) -> Fitted:
        """The trained autoencoder, with statistics of its latents and its held-out quality."""
        network = self.networks["network"].requires_grad_(False).eval().to("cpu")
        mean, deviation = measure_latents(network, train)
        quality = measure_reconstruction(codec(network, mean, 1 / deviation), held_out)
        return Fitted(network, quality, mean, deviation)

    def _move(self, name: str, loss: Tensor) -> None:
        """One optimizer step at its share of the learning rate; gradients are clipped to 1."""
        network, optimizer = self.networks[name], self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate(self.step, self.num_steps) * optimizer.defaults["lr"]
        optimizer.step()


def split(num_images: int, config: FitConfig) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " K"]]:
    """Numbers of the images to train on and of those to hold out, drawn by the seed.

    Raises:
        DataError: if there are too few.
    """
    if num_images < 2:
        raise DataError(
            f"there is {num_images} image; expected two at least",
            "one is held out to measure the quality on",
        )
    order = torch.randperm(num_images, generator=stream(config.seed, "held out"))
    count = min(max(1, round(num_images * config.held_out)), num_images - 1, MOST_MEASURED)
    return order[count:], order[:count]


def check_side(side: int, factor: int) -> None:
    """Refuse images that a factor does not divide.

    Raises:
        ConfigError: if it does not.
    """
    if side % factor:
        raise ConfigError(
            f"images of {side}x{side} do not fit an autoencoder of factor {factor}",
            f"choose --size or --factor so that the side is a multiple of {factor}",
        )


def build_network(config: FitConfig, image_channels: int) -> Any:
    """An AutoencoderKL with start weights.

    Without attention, which costs memory with the fourth power of the side, and with groups of
    eight channels in its norms.
    """
    from diffusers import AutoencoderKL  # takes seconds

    num_halvings = config.factor.bit_length() - 1
    widths = [config.width * min(2**i, 4) for i in range(num_halvings + 1)]
    network: Any = AutoencoderKL(
        in_channels=image_channels,
        out_channels=image_channels,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=tuple(widths),
        layers_per_block=config.depth,
        latent_channels=config.channels,
        norm_num_groups=config.width // 8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    # Latents start with little noise (deviation e^-2, not 1), or the decoder first learns to see
    # through it: 0.36 dB after 300 steps on the digits.
    torch.nn.init.constant_(network.quant_conv.bias[config.channels :], -4.0)
    return network


class PatchDiscriminator(nn.Module):
    """A patch discriminator: one logit for each of overlapping patches, (N, 1, H/4, W/4)."""

    def __init__(self, image_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(image_channels, width, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(width // 8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, images: Float[Tensor, "N I P P"]) -> Float[Tensor, "N 1 H W"]:
        return self.layers(images)


def adam(network: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(network.parameters(), lr=learning_rate, betas=(0.9, 0.99))


def rate(step: int, num_steps: int) -> float:
    """A step's share of the learning rate: linear warm-up over a twentieth, then a cosine."""
    start = max(1, num_steps // 20)
    if step < start:
        return (step + 1) / start
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, num_steps - start)))


def measure_latents(
    network: Any, images: Images
) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """Mean and standard deviation of each latent channel, as drawn from their distributions."""
    count = network.config.latent_channels
    raw = Latents(
        codec(network, torch.zeros(count), torch.ones(count)), "moments", 1, images.shape[-1]
    )
    moments = raw.encode(images[:MOST_MEASURED]).double()
    means, deviations = moments.transpose(0, 1).flatten(1).chunk(2)
    variance = means.var(dim=1) + deviations.square().mean(dim=1)
    return means.mean(dim=1).float(), variance.sqrt().float()


def measure_reconstruction(codec: Codec, images: Images) -> Quality:
    """PSNR and SSIM of images that a run reconstructs from the means of their latents."""
    images = images[:MOST_MEASURED]
    autoencoder = Latents(codec, "mean", 1, images.shape[-1])
    reconstructed = autoencoder.decode(autoencoder.sample(autoencoder.encode(images)))
    if codec.image_channels == 1:
        reconstructed, images = reconstructed[:, :1], images[:, :1]
    pair = reconstructed.float() / 255, images.float() / 255
    decibels = psnr(*pair).clamp(max=99)  # infinite where nothing is lost
    return Quality(decibels.mean().item(), ssim(*pair).mean().item(), len(images))


def save_autoencoder(folder: Path, fitted: Fitted, config: FitConfig, num_steps: int) -> None:
    """Write what `autoencoder.path` and diffusers load into a folder that exists."""
    quality = fitted.quality
    fitted.network.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    assert (folder / WEIGHTS).is_file()
    statistics = {
        "latent_channels": config.channels,
        "mean": fitted.mean.tolist(),
        "std": fitted.deviation.tolist(),
        "psnr_db": quality.psnr,
        "ssim": quality.ssim,
        "num_images_held_out": quality.num_images,
        "num_steps": num_steps,
        "settings": vars(config),
    }
    write_json(folder / STATISTICS, statistics)
