"""The autoencoders by the name that `autoencoder.kind` has."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from scalegan.autoencoders.files import read_config
from scalegan.autoencoders.kl import kl
from scalegan.autoencoders.linear import linear
from scalegan.autoencoders.pixels import identity
from scalegan.autoencoders.tiny import TAEF2, taef2, tiny
from scalegan.config.reading import choose
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import ConfigError
from scalegan.interfaces import Autoencoder


@dataclass(frozen=True)
class Kind:
    """All that the rest of the package knows of an autoencoder."""

    make: Callable[[AutoencoderConfig, int, int], Autoencoder]
    """By (config, channels of the images: 1 or 3, their side)."""
    factor: int = 0
    """Side of an image over the side of its samples; 0 = as its files say."""
    channels: int = 0
    """Of a sample; 0 = as its files, or the images, say."""
    needs_path: bool = False
    """Whether `autoencoder.path` must name its files: no hub has them under this name."""


AUTOENCODERS: dict[str, Kind] = {
    "identity": Kind(identity, factor=1),
    "sd-vae-ft-ema": Kind(partial(kl, hub="stabilityai/sd-vae-ft-ema"), factor=8, channels=4),
    "sd-vae-ft-mse": Kind(partial(kl, hub="stabilityai/sd-vae-ft-mse"), factor=8, channels=4),
    "kl": Kind(kl, needs_path=True),
    "linear": Kind(linear, needs_path=True),
    "taesd": Kind(partial(tiny, hub="madebyollin/taesd"), factor=8, channels=4),
    "tiny": Kind(tiny, needs_path=True),
    "taef2": Kind(taef2, factor=TAEF2.factor, channels=TAEF2.channels, needs_path=True),
}


def make_autoencoder(config: AutoencoderConfig, channels: int, side: int) -> Autoencoder:
    """The autoencoder that a config names, with its weights.

    Args:
        config: its kind, and where its files are.
        channels: 1 if the images are gray, else 3.
        side: of the images.

    Raises:
        ConfigError: if there is none of that name, its files are not there, or the images do not
            fit it.
        CheckpointError: if its files are not usable.
    """
    return kind_of(config).make(config, channels, side)


def kind_of(config: AutoencoderConfig) -> Kind:
    """The entry of a config.

    Raises:
        ConfigError: if there is none of that name, or it lacks its path.
    """
    kind = choose(AUTOENCODERS, config.kind, "autoencoder.kind")
    if kind.needs_path and not config.path:
        raise ConfigError(
            f"`autoencoder.kind` `{config.kind}` needs `autoencoder.path`",
            "name the folder that holds its files",
        )
    return kind


def named(text: str, store: Literal["moments", "mean"] = "moments") -> AutoencoderConfig:
    """The config of an autoencoder's name, or of a folder whose files say what it is.

    Args:
        text: "identity", "sd-vae-ft-mse", ..., a folder, or KIND:FOLDER.
        store: "moments" or "mean".

    Raises:
        ConfigError: if it is neither.
    """
    if text == "identity":
        return AutoencoderConfig()
    without_path = [name for name, kind in AUTOENCODERS.items() if not kind.needs_path]
    if text in without_path and not Path(text).is_dir():
        return AutoencoderConfig(kind=text, store=store)
    name, _, path = text.partition(":")
    if name in AUTOENCODERS and path:
        return AutoencoderConfig(kind=name, path=path, store=store)
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"there is no autoencoder and no folder named `{text}`",
            f"names: {', '.join(without_path)}",
        )
    if (folder / "encoder.safetensors").is_file():
        name = "taef2"
    else:
        names = {"AutoencoderTiny": "tiny", "LinearAutoencoder": "linear", "AutoencoderKL": "kl"}
        name = names[read_config(folder)["_class_name"]]
    return AutoencoderConfig(kind=name, path=text, store=store)
