"""`scalegan autoencoder train`: images become a folder with an autoencoder of their own.

While it trains, the folder holds checkpoints; the finished files take their place. Killed at any
moment, the same command goes on and ends with the same bits.
"""

import hashlib
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from scalegan.autoencoders.files import CONFIG
from scalegan.autoencoders.fit import (
    MOST_MEASURED,
    Fit,
    Fitted,
    check_side,
    measure_reconstruction,
    save_autoencoder,
    split,
)
from scalegan.autoencoders.linear import codec_of, divisors, fit_linear, save_linear
from scalegan.autoencoders.lpips import LPIPS
from scalegan.config.auxiliary import FitConfig
from scalegan.config.durations import count_steps
from scalegan.data.loader import Loader
from scalegan.data.memory import Dataset, Rows, read_into_memory
from scalegan.data.shards import Shards, read_manifest
from scalegan.data.sources import open_source
from scalegan.data.tables import SOURCES
from scalegan.errors import CheckpointError, ConfigError, DataError, TrainingError
from scalegan.interfaces import Batch
from scalegan.runtime.files import (
    MANIFEST,
    atomic_folder,
    clear_drafts,
    locked,
    read_json,
    write_json,
)
from scalegan.runtime.progress import Bar
from scalegan.train import checkpoint
from scalegan.train.guard import Signals

CHECKPOINTS, FINISHED = "checkpoints", "finished"
IMAGES_AT_A_TIME = 2000
READ_EVERY = 20
"""Steps between reading the losses, each of which waits for the device."""
MAY_CHANGE = ("checkpoint", "lpips_path")


class TrainingImages(NamedTuple):
    """A data set of images."""

    rows: Dataset
    copies: int
    """Rows of an image: 2 where its mirror image follows it."""
    side: int
    is_gray: bool
    digest: str
    """What the images are, as text."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageSubset:
    """Some of the images; a batch's `stored` are the images themselves."""

    rows: Dataset
    chosen: Int64[Tensor, " M"]

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, indices: Tensor) -> Batch:
        batch = self.rows.read(self.chosen[indices])
        images = batch.stored.expand(-1, 3, -1, -1) if batch.images is None else batch.images
        return Batch(images, batch.labels)


def train_autoencoder(source: str, out: Path, config: FitConfig, device: str = "cpu") -> int | None:
    """Fit an autoencoder to images, or go on where an earlier call stopped; print how good it is.

    Args:
        source: shards that hold images, or a source as `data.source` has it.
        out: the folder to write; it must be new, empty, or an earlier call's.
        config: what it is made of, and for how long.
        device: "cpu", "cuda" or "cuda:1".

    Returns:
        The number of the signal that stopped it before its end, if one did.

    Raises:
        ConfigError: if settings do not fit the images or each other, or `out` is in use.
        DataError: if there are no images.
        CheckpointError: if the folder was begun with other settings or images, or is damaged.
        TrainingError: if a loss or a weight is not finite.
    """
    config.check()
    refuse_other(out)
    opened = open_images(source, config.size)
    check_side(opened.side, config.factor)
    train, held_out = (
        ImageSubset(opened.rows, rows_of(places, opened.copies))
        for places in split(len(opened.rows) // opened.copies, config)
    )
    if config.kind == "linear":
        fit_components(out, config, opened, train, held_out)
        return None
    num_steps = count_steps(config.duration, "duration", config.batch_size, len(train))
    every = count_steps(config.checkpoint, "checkpoint", config.batch_size, len(train))
    perceptual = LPIPS(Path(config.lpips_path), device) if config.lpips_path else None
    if perceptual:
        perceptual.check_side(opened.side)
    fit = Fit(config, 1 if opened.is_gray else 3, num_steps, perceptual, device)
    about = {
        **{name: value for name, value in vars(config).items() if name not in MAY_CHANGE},
        "images": opened.digest,
        "lpips's weights": perceptual.digest if perceptual else "",
    }
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    with locked(out, "fitting an autoencoder in"):
        for note in opened.notes:
            print(f"notice: {note}")
        for folder in (out, out / CHECKPOINTS):
            clear_drafts(folder)
        restore_fit(out, fit, about)
        stopped_by = advance_fit(out, fit, train, every, about)
        if stopped_by:
            print(
                f"stopped at step {fit.step:,} of {num_steps:,} by signal {stopped_by}; "
                "the same command goes on from here"
            )
            return stopped_by
        measured = (
            subset.read(torch.arange(len(subset))[:MOST_MEASURED]).stored
            for subset in (train, held_out)
        )
        fitted = fit.finish(*measured)
        finish(out, fitted, config, num_steps)
    print("\n".join(describe_fit(fitted, opened.side, out, config)))
    return None


def fit_components(
    out: Path, config: FitConfig, opened: TrainingImages, train: ImageSubset, held_out: ImageSubset
) -> None:
    """Find the principal components of patches and write the folder; print how good they are."""
    parts = (train.read(some).stored for some in torch.arange(len(train)).split(IMAGES_AT_A_TIME))
    image_channels = 1 if opened.is_gray else 3
    found = fit_linear(parts, image_channels, config.factor, config.channels)
    network, deviations = found
    scale = divisors(deviations, config.whitening)
    codec = codec_of(network, torch.zeros_like(scale), 1 / scale)
    quality = measure_reconstruction(codec, held_out.read(torch.arange(len(held_out))).stored)
    about = {
        "psnr_db": quality.psnr,
        "ssim": quality.ssim,
        "num_images_held_out": quality.num_images,
        "num_images": len(train),
        "whitening": config.whitening,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out) as draft:
        save_linear(draft, network, scale, about)
    fitted = Fitted(network, quality, torch.zeros_like(scale), deviations)
    print("\n".join(describe_fit(fitted, opened.side, out, config)))


def open_images(text: str, size: int) -> TrainingImages:
    """Shards are read as needed, a source is decoded into memory.

    Raises:
        ConfigError: if shards have another size than is asked for.
        DataError: if there are no images, or shards hold latents alone.
    """
    if not (Path(text) / MANIFEST).is_file():
        collected = read_into_memory(open_source(text, SOURCES), size, hint="--size 64")
        images = collected.images
        found = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        rows = Rows(images, collected.labels, None)
        return TrainingImages(rows, 1, images.shape[-1], collected.is_gray, found, collected.notes)
    about = read_manifest(Path(text))
    has_pixels = about["autoencoder"]["config"]["kind"] == "identity"
    if not (has_pixels or about["keep_images"]):
        raise DataError(
            f"`{text}` holds latents and no images, which an autoencoder is fitted to",
            "prepare with --keep-images, or without --autoencoder",
        )
    if size not in (0, about["side"]):
        raise ConfigError(
            f"`size` is {size} but the images of `{text}` have side {about['side']}",
            "leave --size out, or prepare with it",
        )
    shards = Shards(Path(text), with_images=not has_pixels)
    shards.verify()
    is_gray = about["channels"] == 1
    return TrainingImages(shards, shards.copies, about["side"], is_gray, shards.fingerprint)


def rows_of(places: Int64[Tensor, " M"], copies: int) -> Int64[Tensor, " K"]:
    """Rows of images: a mirror image goes where its image goes."""
    return (places[:, None] * copies + torch.arange(copies)).flatten()


def refuse_other(out: Path) -> None:
    """Nothing is ever written over.

    Raises:
        ConfigError: if there is something of that name that is no unfinished training.
    """
    if (out / CONFIG).is_file():
        raise ConfigError(
            f"`{out}` holds a finished autoencoder", "choose another --out, or remove it"
        )
    if out.exists() and not (out / CHECKPOINTS).is_dir() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"`{out}` exists already", "choose another --out, or remove it")


def advance_fit(
    out: Path, fit: Fit, subset: ImageSubset, every: int, about: dict[str, Any]
) -> int | None:
    """Step until the end, or until a signal, whose number is returned.

    Raises:
        TrainingError: if a loss is not finite.
    """
    batch_size = fit.config.batch_size
    parts, device = (0, 1, 1), torch.device(fit.device)
    threads = 0 if subset.rows.is_in_memory else 2
    loader = Loader(subset, fit.config.seed, batch_size, parts, device, threads)
    bar, note = Bar(fit.num_steps, "steps", fit.step, images_per_unit=batch_size), ""
    with Signals() as signals, loader, bar:
        while fit.step < fit.num_steps:
            if signals.received is not None:
                write(out, fit, about)
                return signals.received
            [batch] = loader.share(0, fit.step * batch_size)
            means = fit.update(batch.stored)
            if fit.step % READ_EVERY == 1 or fit.step == fit.num_steps:
                values = {name: value.item() for name, value in means.items()}
                if not all(math.isfinite(value) for value in values.values()):
                    raise TrainingError(
                        f"the loss is not finite at step {fit.step}: {values}",
                        "lower --learning-rate; the last checkpoint is sound",
                    )
                note = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
            bar.advance(note=note)
            if fit.step % every == 0 and fit.step < fit.num_steps:
                write(out, fit, about)
    return None


def write(out: Path, fit: Fit, about: dict[str, Any]) -> None:
    """A checkpoint; then older ones go.

    Raises:
        TrainingError: if a weight is not finite.
    """
    if name := checkpoint.first_not_finite(checkpoint.tensors_of(fit.networks, fit.optimizers)):
        raise TrainingError(
            f"`{name}` is not finite at step {fit.step}; no checkpoint is written of it",
            "lower --learning-rate",
        )
    with atomic_folder(out / CHECKPOINTS / checkpoint.name_of(fit.step)) as draft:
        checkpoint.save_networks(fit.networks, fit.optimizers, draft)
        write_json(draft / "state.json", {"step": fit.step, "about": about})
    checkpoint.remove_old(out / CHECKPOINTS)


def restore_fit(out: Path, fit: Fit, about: dict[str, Any]) -> None:
    """Go on from the newest sound checkpoint, if there is one.

    Raises:
        CheckpointError: if it is of another training, or all are damaged.
    """
    path = checkpoint.find_newest(out / CHECKPOINTS, print)
    if path is None:
        return
    state = read_json(path / "state.json")
    for name, value in about.items():
        if state["about"].get(name) != value:
            raise CheckpointError(
                f"`{out}` was begun with another `{name}`: {state['about'].get(name)}, not {value}",
                "give the command it was begun with, or choose another --out",
            )
    checkpoint.load_networks(fit.networks, fit.optimizers, path)
    fit.step = state["step"]
    print(f"going on from step {fit.step:,} of {fit.num_steps:,}")


def finish(out: Path, fitted: Fitted, config: FitConfig, num_steps: int) -> None:
    """Put the finished files into place; the one without which nothing is opened comes last."""
    with atomic_folder(out / FINISHED) as draft:
        save_autoencoder(draft, fitted, config, num_steps)
    for file in sorted((out / FINISHED).iterdir(), key=lambda file: file.name == CONFIG):
        file.replace(out / file.name)
    for folder in (FINISHED, CHECKPOINTS):
        shutil.rmtree(out / folder)


def describe_fit(fitted: Fitted, side: int, out: Path, config: FitConfig) -> list[str]:
    """How good it is and what to do with it."""
    quality = fitted.quality
    parameters = sum(parameter.numel() for parameter in fitted.network.parameters())
    latents = f"{config.channels}x{side // config.factor}x{side // config.factor}"
    means, deviations = (
        ", ".join(f"{value:.3f}" for value in values.tolist())
        for values in (fitted.mean, fitted.deviation)
    )
    return [
        f"{parameters / 1e6:.2f} M parameters; images of {side}x{side} become {latents}",
        f"PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.4f} on {quality.num_images:,} held-out "
        "images",
        f"latents, by channel: mean {means}; standard deviation {deviations}",
        f"next: scalegan prepare IMAGES SHARDS --autoencoder {out}",
    ]
