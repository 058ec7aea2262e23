"""Fit a small KL autoencoder to pictures: a latent space of one's own.

Source: the first stage of "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv
2112.10752: a reconstruction loss, a slight pull of the latents towards the standard normal (1e-6),
and, if asked for, a patch discriminator. The network is diffusers' AutoencoderKL.

The reconstruction loss is the mean absolute error plus 1 - SSIM over three scales, the mix that
"Loss Functions for Image Restoration with Neural Networks" (arXiv 1511.08861) found to look better
than either alone. Deviation: LPIPS, which the paper uses, needs trained weights; whoever has some
hands them in as a function.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from scalegan.autoencoders.base import to_grey
from scalegan.autoencoders.folders import STATISTICS, WEIGHTS
from scalegan.autoencoders.kl import codec
from scalegan.autoencoders.latents import Latents
from scalegan.errors import ConfigError, DataError, TrainingError
from scalegan.interfaces import Images
from scalegan.ops.similarity import psnr, ssim, unlikeness
from scalegan.runtime.files import atomic_folder, write_json
from scalegan.runtime.rng import seed_all, stream
from scalegan.settings import FitConfig

Perceptual = Callable[[Tensor, Tensor], Float[Tensor, " N"]]
"""Distance of two batches of pictures in [-1, 1]."""
MOST_MEASURED = 512
"""Pictures that quality, and those that statistics, are computed on at most."""


class Quality(NamedTuple):
    """How well pictures come back, measured after rounding to uint8."""

    psnr: float
    """Mean over pictures, dB."""
    ssim: float
    num_images: int


class Fitted(NamedTuple):
    """A trained autoencoder."""

    network: nn.Module
    quality: Quality
    """On pictures that were not trained on."""
    mean: Float[Tensor, " C"]
    deviation: Float[Tensor, " C"]
    """Of the latents, per channel, over training pictures."""


def fit(
    images: Images,
    config: FitConfig,
    num_steps: int,
    watch: Callable[[int, dict[str, float]], None] = lambda step, values: None,
    perceptual: Perceptual | None = None,
    device: str = "cpu",
) -> Fitted:
    """Train on pictures; the same seed, pictures and device give the same weights.

    Args:
        images: of one size; grey ones (three equal channels) make a network of one channel.
        config: sizes, rates and strengths; its `duration` and `size` are the caller's business.
        num_steps: updates.
        watch: told after every step: its number and losses; the losses now and then only.
        perceptual: a further term, for example LPIPS, of strength 1.
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        ConfigError: if the pictures do not fit the factor.
        DataError: if there are too few.
        TrainingError: if a loss is not finite.
    """
    train, held_out = split(images, config)
    is_grey = bool((images == images[:, :1]).all())
    channels = 1 if is_grey else 3
    seed_all(config.seed, "autoencoder", "init")
    network = build(config, channels).to(device)
    judge = Patches(channels, config.width).to(device) if config.adversarial else None
    optimizer = adam(network, config.learning_rate)
    judge_optimizer = adam(judge, config.learning_rate) if judge else None
    for step in range(num_steps):
        seed_all(config.seed, "autoencoder", step)
        chosen = torch.randint(
            len(train), (config.batch_size,), generator=stream(config.seed, "rows", step)
        )
        part = train[chosen].to(device)
        pictures = (to_grey(part) if is_grey else part).float() / 127.5 - 1
        posterior = network.encode(pictures).latent_dist
        made = network.decode(posterior.sample()).sample
        losses = {
            "l1": (made - pictures).abs().flatten(1).mean(dim=1),
            "structure": config.structure * unlikeness((made + 1) / 2, (pictures + 1) / 2),
            "kl": config.kl * posterior.kl(),
        }
        if perceptual:
            losses["perceptual"] = perceptual(made, pictures)
        is_judged = judge is not None and step >= num_steps // 2
        if judge is not None and is_judged:
            losses["adversarial"] = -config.adversarial * judge(made).flatten(1).mean(dim=1)
        means = {name: value.mean() for name, value in losses.items()}
        move(network, optimizer, torch.stack(list(means.values())).sum(), rate(step, num_steps))
        if judge is not None and judge_optimizer is not None and is_judged:
            hinge = F.relu(1 - judge(pictures)).mean() + F.relu(1 + judge(made.detach())).mean()
            move(judge, judge_optimizer, hinge, rate(step, num_steps))
        is_told = step % 20 == 0 or step == num_steps - 1
        values = {name: value.item() for name, value in means.items()} if is_told else {}
        if not all(math.isfinite(value) for value in values.values()):
            raise TrainingError(
                f"the loss is not finite at step {step}: {values}", "lower --learning-rate"
            )
        watch(step + 1, values)
    network.requires_grad_(False).eval().to("cpu")
    mean, deviation = measure_latents(network, train)
    return Fitted(network, measure(network, mean, deviation, held_out), mean, deviation)


def split(
    images: Images, config: FitConfig
) -> tuple[UInt8[Tensor, "M 3 P P"], UInt8[Tensor, "K 3 P P"]]:
    """Pictures to train on and to hold out, drawn by the seed.

    Raises:
        ConfigError: if the pictures do not fit the factor.
        DataError: if there are too few.
    """
    side = images.shape[-1]
    if side % config.factor:
        raise ConfigError(
            f"pictures of {side}x{side} do not fit an autoencoder of factor {config.factor}",
            f"choose --size or --factor so that the side is a multiple of {config.factor}",
        )
    if len(images) < 2:
        raise DataError(
            f"there is {len(images)} picture; expected two at least",
            "one is held out to measure the quality on",
        )
    order = torch.randperm(len(images), generator=stream(config.seed, "held out"))
    count = min(max(1, round(len(images) * config.held_out)), len(images) - 1)
    return images[order[count:]], images[order[:count]]


def build(config: FitConfig, image_channels: int) -> Any:
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


class Patches(nn.Module):
    """Says of overlapping patches how real they look: (N, 1, H/4, W/4)."""

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

    def forward(self, pictures: Float[Tensor, "N I P P"]) -> Float[Tensor, "N 1 H W"]:
        return self.layers(pictures)


def adam(network: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(network.parameters(), lr=learning_rate, betas=(0.9, 0.99))


def rate(step: int, num_steps: int) -> float:
    """Share of the learning rate: up over the first twentieth, then down along a cosine."""
    start = max(1, num_steps // 20)
    if step < start:
        return (step + 1) / start
    return 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, num_steps - start)))


def move(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, share: float) -> None:
    """One update at a share of the learning rate; long gradients are cut to 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = share * optimizer.defaults["lr"]
    optimizer.step()


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


def measure(network: Any, mean: Tensor, deviation: Tensor, images: Images) -> Quality:
    """Reconstruct pictures as a run would, from the means of their latents."""
    images = images[:MOST_MEASURED]
    autoencoder = Latents(codec(network, mean, 1 / deviation), "mean", 1, images.shape[-1])
    made = autoencoder.decode(autoencoder.sample(autoencoder.encode(images)))
    if network.config.in_channels == 1:
        made, images = made[:, :1], images[:, :1]
    pair = made.float() / 255, images.float() / 255
    decibels = psnr(*pair).clamp(max=99)  # infinite where nothing is lost
    return Quality(decibels.mean().item(), ssim(*pair).mean().item(), len(images))


def save(out: Path, fitted: Fitted, config: FitConfig, num_steps: int) -> None:
    """Write a folder that `autoencoder.path` and diffusers load; it is whole or not there.

    Raises:
        ConfigError: if there is something of that name.
    """
    refuse_existing(out)
    quality = fitted.quality
    with atomic_folder(out) as draft:
        fitted.network.save_pretrained(draft, safe_serialization=True)  # type: ignore[operator]
        assert (draft / WEIGHTS).is_file()
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
        write_json(draft / STATISTICS, statistics)


def refuse_existing(out: Path) -> None:
    """Nothing is ever written over.

    Raises:
        ConfigError: if there is something of that name.
    """
    if out.exists():
        raise ConfigError(f"`{out}` exists already", "choose another --out, or remove it")
