"""scalegan trains, evaluates and samples transformer GANs; PyTorch is imported at the first call.

The functions here do what the commands of the same names do, and return what these print.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

# The package is bound first: its import after the function `train` would replace that.
import scalegan.train  # noqa: F401
from scalegan.version import __version__

if TYPE_CHECKING:
    from scalegan.data.prepare import Summary
    from scalegan.evaluation.measure import Number
    from scalegan.inference.gan import GAN
    from scalegan.interfaces import Teacher
    from scalegan.train.loop import Outcome

__all__ = ["__version__", "evaluate", "load", "prepare", "train"]


def load(path: str | Path, device: str = "cpu", autoencoder: str | Path = "") -> "GAN":
    """Load the trained generator of a run or a snapshot.

    Args:
        path: a run, whose newest snapshot is taken, or a snapshot folder.
        device: "cpu", "cuda" or "cuda:1".
        autoencoder: its name or folder, if it is not where the snapshot says.

    Returns:
        A generator with `sample`, `stream`, `style`, `paint`, `interpolate`, `mix` and `levels`.

    Raises:
        CheckpointError: if there is no snapshot, or it is damaged.

    Example:
        >>> gan = scalegan.load("runs/digits")
        >>> images = gan.sample(16, seed=0)  # uint8 (N, 3, P, P)
    """
    from scalegan.inference import gan

    return gan.load(path, device, autoencoder)


def train(
    recipe: str | Path,
    run: str | Path = "",
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    resume: str | Path = "",
    init_from: str | Path = "",
    teacher: "Teacher | None" = None,
) -> "Outcome":
    """Train a GAN from a recipe; the same call again resumes a run that was stopped.

    Args:
        recipe: the name of a recipe, or a TOML file.
        run: the folder of the run; empty is runs/NAME with the name of the recipe.
        overrides: values that replace the recipe's, by dotted name of the setting.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:1".
        resume: a checkpoint to resume from instead of the newest one of the run.
        init_from: a snapshot or run whose weights a new run starts from.
        teacher: a function from normalized images (N, 3, Q, Q) to features (N, 1 + T, E), class
            token first, that the discriminator is aligned with; None = the one that the recipe
            names, if any.

    Returns:
        The run's folder, its last step, the numbers that were measured at its end, and the signal
        that stopped it before, if one did.

    Raises:
        CompleteError: if the run is at its end already.
        ConfigError: if a setting is unknown, out of range or without effect.
        DataError: if the images cannot be used.
        CheckpointError: if a checkpoint or snapshot cannot be used.
        TrainingError: if values are not finite again and again.

    Example:
        >>> outcome = scalegan.train("digits", "runs/wide", {"train.batch_size": 128})
        >>> gan = scalegan.load(outcome.run)
    """
    from scalegan.config.overrides import read_with
    from scalegan.runtime.world import leave
    from scalegan.train import loop

    config = read_with(str(recipe), overrides or {})
    folder = Path(run) if run else Path("runs") / config.name
    checkpoint, start = (Path(path) if path else None for path in (resume, init_from))
    outcome = loop.train(config, folder, device, checkpoint, start, teacher)
    leave()
    return outcome


def prepare(
    source: str | Path,
    out: str | Path,
    size: int = 0,
    autoencoder: str | Path = "identity",
    store: Literal["moments", "mean"] = "moments",
    workers: int = 0,
    device: str = "cpu",
    shard_rows: int = 10_000,
    allow_upscaling: bool = False,
    mirror: bool = False,
    keep_images: bool = False,
    strict: bool = False,
) -> "Summary":
    """Crop, encode and verify images, and write them as shards to train on.

    The same call again goes on where it was stopped. Processes are started, so that a script needs
    the usual `if __name__ == "__main__":` around it.

    Args:
        source: a folder, an archive or a file, or NAME:PATH to say what it is.
        out: the folder to write, which the setting `data.shards` then names.
        size: the side in pixels to crop images to; 0 leaves them as they are.
        autoencoder: "identity" keeps pixels; else a name, or a folder with its files.
        store: what is stored of an autoencoder's distribution: mean and deviation, or the mean.
        workers: processes; 0 is one per CPU, 1 is this one alone.
        device: where images are encoded: "cpu" or "cuda".
        shard_rows: images in a shard.
        allow_upscaling: whether images smaller than `size` are enlarged instead of left out.
        mirror: whether the mirror image of every image is stored too.
        keep_images: whether images are stored beside their latents.
        strict: whether an image that cannot be used is an error instead of left out.

    Returns:
        How many rows and shards there are, and how many images were left out.

    Raises:
        ConfigError: if there is no such autoencoder, or the images do not fit it.
        DataError: if the images cannot be read, or `out` holds another preparation.

    Example:
        >>> summary = scalegan.prepare("images", "shards/images", size=64)
        >>> scalegan.train("own-folder", overrides={"data.shards": "shards/images"})
    """
    from scalegan.autoencoders.tables import named
    from scalegan.data import prepare as preparation

    return preparation.prepare(
        str(source),
        Path(out),
        size,
        named(str(autoencoder), store),
        allow_upscaling=allow_upscaling,
        mirror=mirror,
        keep_images=keep_images,
        shard_rows=shard_rows,
        workers=workers,
        device=device,
        strict=strict,
    )


def evaluate(
    images: str | Path,
    against: str | Path = "",
    metrics: str = "fid,prdc",
    features: str = "",
    num: int = 0,
    size: int = 0,
    seed: int = 0,
    truncation: float | None = None,
    guidance: float = 1.0,
    classes: Literal["balanced", "uniform", "reference"] = "balanced",
    floor: bool = False,
    keep: str | Path = "",
    batch_size: int = 64,
    device: str = "auto",
) -> "list[Number]":
    """Compare images with a reference.

    Args:
        images: a run, a snapshot, shards, a folder, or any other source of images.
        against: the reference, any source of images or an .npz of statistics; empty is the data
            that the run was trained on.
        metrics: names separated by commas, as `scalegan evaluate --help` lists them.
        features: feature networks separated by commas; empty is the run's classifier if it has
            one, else Inception.
        num: images to evaluate; 0 is all there are, and 10,000 of a generator.
        size: the side in pixels to crop images to; 0 leaves them as they are.
        seed: of the first generated image, or of the random choice of `num` images.
        truncation: psi, 1 is off; for BigGAN the threshold of the noise; None is off.
        guidance: class guidance, 1 is off.
        classes: of generated images: in turn, at random, or as often as in the reference.
        floor: whether two random halves of the reference are compared too.
        keep: an .npz file or a folder to keep the images in; empty keeps none.
        batch_size: images computed at a time; it does not change the numbers.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:1".

    Returns:
        The numbers, each with its spread and the protocol of its measurement.

    Raises:
        ConfigError: if a metric or a feature network is unknown or cannot be had.
        DataError: if the images cannot be read, or do not fit the reference.
        CheckpointError: if there is no snapshot, or it is damaged.

    Example:
        >>> for number in scalegan.evaluate("runs/digits", metrics="fid,pr"):
        ...     print(number.title, number.value, number.fingerprint)
    """
    from scalegan.evaluation import evaluate as evaluation
    from scalegan.evaluation.images import ImageOptions
    from scalegan.runtime.world import join, leave

    options = ImageOptions(
        num=num,
        size=size,
        seed=seed,
        truncation=truncation,
        guidance=guidance,
        classes=classes,
        batch_size=batch_size,
    )
    request = evaluation.Request(str(images), str(against), metrics, features, options, floor)
    numbers = evaluation.evaluate(request, join(device), Path(keep) if keep else None)
    leave()
    return numbers
