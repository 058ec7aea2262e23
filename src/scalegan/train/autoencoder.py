"""`scalegan autoencoder train`: a source of pictures becomes a folder with an autoencoder."""

from pathlib import Path

import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from scalegan.autoencoders.fit import Fitted, fit, refuse_existing, save
from scalegan.config import count_steps, parse_duration
from scalegan.data.rows import collect
from scalegan.errors import ConfigError
from scalegan.interfaces import Images
from scalegan.registry import SOURCES
from scalegan.runtime.progress import Bar
from scalegan.settings import FitConfig


def train_autoencoder(source: str, out: Path, config: FitConfig, device: str = "cpu") -> list[str]:
    """Fit a KL autoencoder to a source's pictures and save it.

    Args:
        source: NAME or NAME:PATH, as `data.source`.
        out: the folder to write; it must not exist.
        config: checked.
        device: "cpu", "cuda" or "cuda:1".

    Returns:
        Lines for people: quality, statistics, what to type next.

    Raises:
        ConfigError, DataError, TrainingError: see their sentences.
    """
    refuse_existing(out)
    parse_duration(config.duration, "duration")
    name, _, where = source.partition(":")
    if name not in SOURCES:
        raise ConfigError(
            f"the source is `{source}`; expected one of: {', '.join(SOURCES)}",
            "a path follows the name and a colon, as in npz:PATH",
        )
    images = resize(collect(SOURCES[name](where)).images, config.size)
    num_steps = count_steps(config.duration, "duration", config.batch_size, len(images))
    with Bar(num_steps, "step", config.batch_size) as bar:
        notes = [""]

        def watch(_: int, values: dict[str, float]) -> None:
            if values:
                notes[0] = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
            bar.advance(note=notes[0])

        fitted = fit(images, config, num_steps, watch, device=device)
    save(out, fitted, config, num_steps)
    return describe(fitted, images, out, config)


def resize(images: Images, side: int) -> UInt8[Tensor, "N 3 Q Q"]:
    """Scale pictures down to a side; 0 = leave them.

    Raises:
        ConfigError: if they are smaller.
    """
    found = images.shape[-1]
    if side in (0, found):
        return images
    if side > found:
        raise ConfigError(
            f"the pictures are {found}x{found}; `size` {side} would enlarge them",
            f"choose {found} or less",
        )
    small = F.interpolate(images.float(), size=(side, side), mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).to(images.dtype)


def describe(fitted: Fitted, images: Images, out: Path, config: FitConfig) -> list[str]:
    """How good it is and what to do with it."""
    quality, side = fitted.quality, images.shape[-1]
    parameters = sum(parameter.numel() for parameter in fitted.network.parameters())
    latents = f"{config.channels}x{side // config.factor}x{side // config.factor}"
    means, deviations = (
        ", ".join(f"{value:.3f}" for value in values.tolist())
        for values in (fitted.mean, fitted.deviation)
    )
    return [
        f"{parameters / 1e6:.2f} M parameters; pictures of {side}x{side} become {latents}",
        f"PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.4f} on {quality.num_images:,} held-out "
        "pictures",
        f"latents, by channel: mean {means}; standard deviation {deviations}",
        f"next: scalegan train digits --autoencoder.kind kl --autoencoder.path {out}",
    ]
