"""A snapshot: the weights of a trained generator, its sizes, class names and a card, in one folder.

A snapshot is to use, tune and publish; a checkpoint (`train.checkpoint`) is to resume. Both are
safetensors and JSON, and nothing is ever unpickled.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from scalegan.autoencoders.tables import AUTOENCODERS
from scalegan.config.models import ModelConfig
from scalegan.config.reading import choose, parse_model, parse_part
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.interfaces import Discriminator, Generator
from scalegan.models.tables import ARCHITECTURES
from scalegan.runtime.files import atomic_folder, read_checked, save_tensors, write_json

FORMAT = 2
UNRECORDED_FACTOR = 8
"""Weights of the official GAT code come without their autoencoder, which has Stable Diffusion's."""


AUTOENCODER = "autoencoder"
"""Folder of a snapshot that brings its autoencoder's files along, to be used anywhere."""
PRETRAINED = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class Card:
    """What a snapshot holds and how it was trained, as its `config.json` says."""

    name: str
    model: ModelConfig
    autoencoder: AutoencoderConfig
    shape: tuple[int, int, int]
    class_names: list[str]
    features: int = 0
    """Feature width of the discriminator's projector; 0 = none."""
    step: int = 0
    images_seen: int = 0
    seed: int = 0
    identity: dict[str, Any] = field(default_factory=dict)
    """Identity of the autoencoder that it was trained with; empty = not known."""
    format: int = FORMAT


def save_snapshot(
    path: Path, card: Card, generator: nn.Module, discriminator: nn.Module | None
) -> None:
    """Write a snapshot folder; it gets its name only once it is complete."""
    with atomic_folder(path) as draft:
        save_tensors(generator.state_dict(), draft / "generator.safetensors")
        if discriminator is not None:
            save_tensors(discriminator.state_dict(), draft / "discriminator.safetensors")
        write_json(draft / "config.json", asdict(card))
        (draft / "README.md").write_text(_readme(card, generator), encoding="utf-8")


def newest(run: Path) -> Path:
    """The snapshot folder itself, the newest one of a run, or one that comes with the package.

    Args:
        run: a folder, or "pretrained:NAME".

    Raises:
        CheckpointError: if there is none.
        ConfigError: if no generator of that name comes with the package.
    """
    prefix, _, name = str(run).partition(":")
    if prefix == "pretrained":
        shipped = {path.name: path for path in pretrained()}
        if not shipped:
            raise ConfigError(
                f"there is no generator `{name}`: none comes with this version",
                "train one: scalegan train digits",
            )
        return choose(shipped, name, "pretrained")
    if (run / "config.json").is_file():
        return run
    found = sorted((run / "snapshots").glob("step-*/config.json"))
    if not found:
        what = "holds no snapshot" if run.is_dir() else "does not exist"
        raise CheckpointError(
            f"`{run}` {what}", "name a run folder after its first checkpoint, or a snapshot folder"
        )
    return found[-1].parent


def pretrained() -> list[Path]:
    """The snapshots that come with the package."""
    return sorted(path.parent for path in PRETRAINED.glob("*/config.json"))


def read_card(path: Path) -> Card:
    """Parse and check a snapshot's `config.json`.

    Raises:
        CheckpointError: if it is damaged, of another format or asks for unknown parts.
    """
    values = read_checked(path, "config.json", FORMAT, "snapshot", "use another snapshot")
    try:
        model = parse_model(values["model"])
        autoencoder = parse_part(AutoencoderConfig, values["autoencoder"], "autoencoder.")
        choose(AUTOENCODERS, autoencoder.kind, "autoencoder.kind")
        if not isinstance(values["identity"], dict):
            raise ConfigError("`identity` is not a table")
        shape = tuple(values["shape"])
        values |= {"model": model, "autoencoder": autoencoder, "shape": shape}
        return Card(**values)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"`{path / 'config.json'}` is not usable: {error}") from None


def image_side(card: Card) -> int:
    """Side in pixels of the images that a snapshot's samples are decoded to."""
    factor = card.identity.get("factor") or AUTOENCODERS[card.autoencoder.kind].factor
    return int(card.shape[1] * (factor or UNRECORDED_FACTOR))


def build_generator(card: Card) -> Generator:
    """The generator of a card, with start weights."""
    make = ARCHITECTURES[card.model.architecture].generator
    return make(card.model, card.shape, len(card.class_names))


def build_discriminator(card: Card) -> Discriminator:
    """The discriminator of a card, with start weights."""
    make = ARCHITECTURES[card.model.architecture].discriminator
    return make(card.model, card.shape, len(card.class_names), card.features)


def _readme(card: Card, generator: nn.Module) -> str:
    channels, side, _ = card.shape
    millions = sum(parameter.numel() for parameter in generator.parameters()) / 1e6
    return f"""# {card.name}

- architecture: {card.model.architecture}, {millions:.2f} M parameters (generator)
- samples: {channels} x {side} x {side}, autoencoder `{card.autoencoder.kind}`
- classes: {len(card.class_names)}: {", ".join(card.class_names[:20])}
- trained for: {card.step:,} steps, {card.images_seen:,} images, seed {card.seed}

```python
import scalegan

gan = scalegan.load("path/of/this/folder")
images = gan.sample(16, seed=0)  # uint8 (N, 3, P, P)
```
"""
