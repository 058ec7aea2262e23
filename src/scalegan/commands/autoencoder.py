"""`scalegan autoencoder train`: a small autoencoder of one's own images."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import OUT, parse_flags
from scalegan.config.auxiliary import FitConfig
from scalegan.config.reading import parse_part


@dataclass(frozen=True)
class TrainAutoencoder:
    """Train a small KL autoencoder on your own images, to train a GAN on its latents.

    The same command again resumes a training that was stopped.
    """

    source: tyro.conf.Positional[str]
    """The images: a folder, an archive or a file, shards that hold images, or NAME:PATH."""
    out: Annotated[Path, OUT] = Path("autoencoder")
    """The folder to write, which `autoencoder.path` then names."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""
    config: Annotated[FitConfig, tyro.conf.arg(name="")] = field(default_factory=FitConfig)


def autoencoder_command(arguments: list[str]) -> int:
    flags = parse_flags(TrainAutoencoder, "autoencoder train", arguments)
    config = parse_part(FitConfig, asdict(flags.config))

    from scalegan.train.autoencoder import train_autoencoder

    stopped_by = train_autoencoder(flags.source, flags.out, config, flags.device)
    return 128 + stopped_by if stopped_by else 0
