"""scalegan: GANs that scale. `load` a trained generator; everything else is the command line."""

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from scalegan.inference.gan import GAN

__version__ = version("scalegan")
__all__ = ["__version__", "load"]


def load(path: "str | Path", device: str = "cpu", autoencoder: "str | Path" = "") -> "GAN":
    """Load the newest snapshot of a run, or a snapshot folder.

    Args:
        path: run or snapshot folder.
        device: "cpu", "cuda" or "cuda:1".
        autoencoder: name or folder, where the snapshot's own is no longer where it was.

    Returns:
        A generator to `sample`, `style`, `paint`, `interpolate`, and look at by `levels`.

    Raises:
        CheckpointError: if there is none, or it is damaged.
    """
    from scalegan.inference import gan  # PyTorch takes a second; `import scalegan` does not

    return gan.load(path, device, autoencoder)
