"""Samples and views of a trained generator, written to files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from scalegan.inference.gan import GAN
from scalegan.inference.views import views
from scalegan.runtime.image_files import save_png, write_images
from scalegan.runtime.progress import follow


def write_samples(
    gan: GAN,
    out: Path,
    seeds: Sequence[int],
    classes: Sequence[int | str] | None = None,
    truncation: float | None = None,
    guidance: float = 1.0,
    columns: int = 0,
    batch_size: int = 64,
) -> str:
    """Draw an image of each seed and write them, showing progress.

    Args:
        out: NAME.png is a grid, NAME.npz arrays, any other name a folder of PNG files.
        seeds, classes, truncation, guidance, batch_size: as of `GAN.sample`.
        columns: of the grid; 0 is one per class, 16 at most.

    Returns:
        A line for people.

    Raises:
        ConfigError: if a class is unknown.
    """
    labels = gan.labels(seeds, classes)
    batches = gan.stream(seeds, labels, truncation, guidance, batch_size)
    columns = columns or min(16, len(classes or gan.card.class_names) or 8)
    write_images(follow(batches, len(seeds), "images", size=len), labels.tolist(), out, columns)
    return f"{len(seeds):,} images of step {gan.card.step:,} in `{out}`"


def write_views(
    gan: GAN, out: Path, count: int = 8, classes: Sequence[int | str] | None = None, seed: int = 0
) -> Iterator[str]:
    """Write every view of `views` into a folder, a PNG file each, and yield a line about each."""
    for view in views(gan, count, classes, seed):
        path = out / f"{view.name}.png"
        save_png(view.image, path)
        yield f"{path}  {view.about}"
