"""`scalegan classifier train`: a small classifier of one's own images, to evaluate with."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scalegan.commands.flags import parse_flags
from scalegan.config.auxiliary import ClassifierConfig
from scalegan.config.reading import parse_part


@dataclass(frozen=True)
class TrainClassifier:
    """Train a small classifier on your own images within minutes, to evaluate generators with."""

    source: tyro.conf.Positional[str]
    """The images, with two classes or more: a folder, an archive, shards, or NAME:PATH."""
    out: tyro.conf.Positional[Path]
    """The folder to write; it must not exist."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or cuda:1."""
    config: Annotated[ClassifierConfig, tyro.conf.arg(name="")] = field(
        default_factory=ClassifierConfig
    )


def classifier_command(arguments: list[str]) -> None:
    flags = parse_flags(TrainClassifier, "classifier train", arguments)
    config = parse_part(ClassifierConfig, asdict(flags.config))

    from scalegan.evaluation.classifier import train_classifier

    print("\n".join(train_classifier(flags.source, flags.out, config, flags.device)))
