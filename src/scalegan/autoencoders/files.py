"""Where an autoencoder's files are: a local folder first, then the hub. No pickle is opened."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.runtime.files import read_json

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
STATISTICS = "latent_stats.json"
"""Mean and standard deviation of every latent channel; where it lies, latents are standardized."""


def find(config: AutoencoderConfig, hub: str = "") -> Path:
    """The folder with a config's files: its path, else the hub's cache, else the hub.

    Args:
        config: of any kind that has files.
        hub: the repository that holds them, where the config has no path.

    Raises:
        ConfigError: if the files are in none of these places.
    """
    if config.path:
        folder = Path(config.path).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"there is no folder `{config.path}`; it is the `autoencoder.path`",
                "name the folder that holds the autoencoder's files",
            )
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub, allow_patterns=[CONFIG, WEIGHTS], etag_timeout=5))
    except OSError:
        raise ConfigError(
            f"`{config.kind}` is not on this machine and the hub cannot be reached",
            f"put `{CONFIG}` and `{WEIGHTS}` of https://huggingface.co/{hub} into a folder "
            "and name it with `autoencoder.path`",
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a folder that `save_pretrained` wrote.

    Raises:
        CheckpointError: if it is not there, not JSON, or of something else than an autoencoder.
    """
    try:
        values = read_json(folder / CONFIG)
    except FileNotFoundError:
        raise CheckpointError(
            f"`{folder}` holds no autoencoder: there is no `{CONFIG}`",
            "expected a folder that diffusers' save_pretrained or `scalegan autoencoder train` "
            "wrote, or TAEF2's two safetensors files",
        ) from None
    except ValueError as error:
        raise CheckpointError(f"`{folder / CONFIG}` cannot be read: {error}") from None
    kind = values.get("_class_name") if isinstance(values, dict) else None
    if kind not in ("AutoencoderKL", "AutoencoderTiny", "LinearAutoencoder"):
        raise CheckpointError(
            f"`{folder}` holds `{kind}`; expected `AutoencoderKL`, `AutoencoderTiny` or "
            "`LinearAutoencoder`"
        )
    return values


def load_network(folder: Path, name: str) -> Any:
    """A network of diffusers, in float32, with every weight from the file and no other.

    Args:
        name: "AutoencoderKL" or "AutoencoderTiny".

    Raises:
        CheckpointError: if the folder holds something else, or damaged or pickled weights.
    """
    found = read_config(folder)["_class_name"]
    if found != name:
        kinds = {"AutoencoderKL": "kl", "AutoencoderTiny": "tiny", "LinearAutoencoder": "linear"}
        raise CheckpointError(
            f"`{folder}` holds `{found}`; expected `{name}`",
            f"set `autoencoder.kind` to `{kinds[found]}`",
        )
    if not (folder / WEIGHTS).is_file():
        has_pickle = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        raise CheckpointError(
            f"`{folder}` has no `{WEIGHTS}`" + (" but pickled weights alone" if has_pickle else ""),
            "pickles can run programs and are not opened; get the safetensors file"
            if has_pickle
            else "put it there",
        )
    import diffusers  # takes seconds
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would warn of is an error here
    try:
        network, info = getattr(diffusers, name).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            torch_dtype=torch.float32,
        )
    except Exception as error:  # whatever a damaged file or a wrong config makes of it
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise CheckpointError(f"`{folder}` cannot be loaded as `{name}`: {first[0]}") from None
    finally:
        logging.set_verbosity(before)
    for what, names in (("lacks", info["missing_keys"]), ("has unused", info["unexpected_keys"])):
        if names:
            raise CheckpointError(
                f"`{folder / WEIGHTS}` {what} {len(names)} tensor(s) of `{name}`, "
                f"such as `{sorted(names)[0]}`"
            )
    return network


def statistics(folder: Path, channels: int) -> tuple[Tensor, Tensor] | None:
    """Shift and scale that standardise each channel, if the folder says.

    Raises:
        CheckpointError: if what it says cannot be used.
    """
    path = folder / STATISTICS
    if not path.is_file():
        return None
    try:
        values = read_json(path)
        mean, deviation = (torch.tensor(values[key]).float() for key in ("mean", "std"))
    except (ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"`{path}` cannot be used: {error}") from None
    return standardize(mean, deviation, channels, path)


def standardize(
    mean: Tensor, deviation: Tensor, channels: int, path: Path
) -> tuple[Tensor, Tensor]:
    """Shift and scale of a mean and a standard deviation per channel.

    Raises:
        CheckpointError: if there is not one positive, finite value for each channel.
    """
    is_usable = mean.shape == deviation.shape == (channels,) and bool(
        mean.isfinite().all() and deviation.isfinite().all() and (deviation > 0).all()
    )
    if not is_usable:
        raise CheckpointError(
            f"`{path}` does not give a finite mean and a positive deviation for each of "
            f"{channels} channels"
        )
    return mean, 1 / deviation
