"""A generator for use: weights, sizes, class names and a card, in one folder.

A snapshot is to use, tune and publish; a checkpoint (`train.checkpoint`) is to resume. Both are
safetensors and JSON, and nothing is ever unpickled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from scalegan.autoencoders.files import named
from scalegan.autoencoders.tables import AUTOENCODERS
from scalegan.config.models import ModelConfig
from scalegan.config.reading import choose, parse_model, parse_part
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.inference.sampling import calibrated, labels_for, paint, sample, styles_for
from scalegan.interfaces import (
    Autoencoder,
    Discriminator,
    Generator,
    Images,
    MapsAttention,
    MixesStyles,
    WeighsTokens,
)
from scalegan.models.tables import ARCHITECTURES
from scalegan.runtime.files import (
    atomic_folder,
    damage,
    load_tensors,
    read_json,
    refuse_other_shapes,
    save_tensors,
    write_json,
)
from scalegan.runtime.sharding import fill

FORMAT = 2


@dataclass(frozen=True)
class Card:
    """What a snapshot says of itself (`config.json`)."""

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
    """Of the autoencoder that its samples were trained in; empty = not known."""
    format: int = FORMAT


def save(path: Path, card: Card, generator: nn.Module, discriminator: nn.Module | None) -> None:
    """Write a snapshot folder; it gets its name only once it is complete."""
    with atomic_folder(path) as draft:
        save_tensors(generator.state_dict(), draft / "generator.safetensors")
        if discriminator is not None:
            save_tensors(discriminator.state_dict(), draft / "discriminator.safetensors")
        write_json(draft / "config.json", asdict(card))
        (draft / "README.md").write_text(_readme(card, generator), encoding="utf-8")


def newest(run: Path) -> Path:
    """The snapshot folder itself, or the newest one of a run.

    Raises:
        CheckpointError: if there is none.
    """
    if (run / "config.json").is_file():
        return run
    found = sorted((run / "snapshots").glob("step-*/config.json"))
    if not found:
        what = "holds no snapshot" if run.is_dir() else "does not exist"
        raise CheckpointError(
            f"`{run}` {what}", "name a run folder after its first checkpoint, or a snapshot folder"
        )
    return found[-1].parent


def read_card(path: Path) -> Card:
    """Parse and check a snapshot's `config.json`.

    Raises:
        CheckpointError: if it is damaged, of another format or asks for unknown parts.
    """
    if problem := damage(path):
        raise CheckpointError(f"snapshot `{path}` is damaged: {problem}", "use another snapshot")
    try:
        values = read_json(path / "config.json")
    except ValueError as error:
        raise CheckpointError(
            f"`{path / 'config.json'}` cannot be read: {str(error)[:200]}"
        ) from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise CheckpointError(
            f"snapshot `{path}` has format {str(found)[:40]}; this version reads {FORMAT}"
        )
    try:
        model = parse_model(values["model"])
        autoencoder = parse_part(AutoencoderConfig, values["autoencoder"], "autoencoder.")
        if not isinstance(values["identity"], dict):
            raise ConfigError("`identity` is not a table")
        shape = tuple(values["shape"])
        values |= {"model": model, "autoencoder": autoencoder, "shape": shape}
        return Card(**values)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"`{path / 'config.json'}` is not usable: {error}") from None


def build_generator(card: Card) -> Generator:
    """The generator of a card, with start weights."""
    make = ARCHITECTURES[card.model.architecture].generator
    return make(card.model, card.shape, len(card.class_names))


def build_discriminator(card: Card) -> Discriminator:
    """The discriminator of a card, with start weights."""
    make = ARCHITECTURES[card.model.architecture].discriminator
    return make(card.model, card.shape, len(card.class_names), card.features)


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file.

    Raises:
        CheckpointError: if a tensor is missing, unexpected or of another shape.
    """
    tensors = load_tensors(path)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    refuse_other_shapes(path, found, expected)
    fill(network, tensors)


def load(path: str | Path, device: str = "cpu", autoencoder: str | Path = "") -> "GAN":
    """Load the newest snapshot of a run, or a snapshot folder.

    Args:
        path: run or snapshot folder.
        device: "cpu", "cuda" or "cuda:1".
        autoencoder: name or folder of the autoencoder, where it is not, or no longer, what the
            snapshot says; empty = as the snapshot says.

    Raises:
        CheckpointError: if there is none, it is damaged, or the autoencoder is not the one that it
            was trained with.
        ConfigError: if the autoencoder is not to be had.
    """
    folder = newest(Path(path))
    card = read_card(folder)
    generator = build_generator(card)
    load_weights(generator, folder / "generator.safetensors")
    config = named(str(autoencoder), card.autoencoder.store) if autoencoder else card.autoencoder
    return GAN(generator.to(device).eval(), open_autoencoder(card, config), card)


def open_autoencoder(card: Card, config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder that a card's samples are decoded with.

    Raises:
        CheckpointError: if it is not the one that they were trained in.
        ConfigError: if it is not to be had.
    """
    # What is not recorded: weights of the official code, whose latents have an eighth of the side.
    factor = card.identity.get("factor", 1 if config.kind == "identity" else 8)
    if config.kind == "identity":
        factor, channels = 1, card.shape[0]
    else:
        channels = card.identity.get("image_channels", 1)
    try:
        found = choose(AUTOENCODERS, config.kind, "autoencoder.kind")(
            config, channels, card.shape[1] * factor
        )
    except ConfigError as error:
        if not config.path:
            raise
        hint = "name its folder: `--autoencoder FOLDER`, or `load(..., autoencoder=FOLDER)`"
        raise ConfigError(str(error), hint) from None
    identity = found.identity()
    wrong = [name for name, value in card.identity.items() if identity.get(name) != value]
    if wrong or found.shape != card.shape:
        raise CheckpointError(
            f"`{card.name}` was trained with another autoencoder than "
            f"`{config.path or config.kind}`; what differs: "
            f"{', '.join(wrong[:3]) or 'the shape of its samples'}",
            "decode with the one it was trained with: `--autoencoder FOLDER`",
        )
    return found


class GAN:
    """A trained generator: images from seeds and classes, and what lies between them.

    Attributes:
        generator: the network, in eval mode.
        autoencoder: between samples and images.
        card: sizes, class names, origin.
    """

    def __init__(self, generator: Generator, autoencoder: Autoencoder, card: Card) -> None:
        self.generator = generator.requires_grad_(False)
        self.autoencoder = autoencoder
        self.card = card
        self._calibrated: dict[float | None, Generator] = {None: self.generator}

    @property
    def num_levels(self) -> int:
        return self.generator.num_levels

    def sample(
        self,
        count: int,
        classes: Sequence[int | str] | None = None,
        truncation: float | None = None,
        guidance: float = 1.0,
        seed: int = 0,
        batch_size: int = 64,
    ) -> Images:
        """Draw images: uint8 (count, 3, P, P). Image i has seed `seed + i`.

        Args:
            count: how many.
            classes: indices or names; the image of seed s has class `classes[s % len(classes)]`.
                None = all classes.
            truncation: psi: 1 = none, towards 0 = more typical and less varied; for BigGAN the
                threshold beyond which noise is redrawn. None = none.
            guidance: 1 = none, above = further from what classes have in common.
            seed: of the first image.
            batch_size: images made at a time; does not change them.

        Raises:
            ConfigError: if a class is unknown or `count` is not positive.
        """
        seeds = self._seeds(count, seed)
        return torch.cat(list(self.stream(seeds, classes, truncation, guidance, batch_size)))

    def stream(
        self,
        seeds: Sequence[int],
        classes: Sequence[int | str] | None = None,
        truncation: float | None = None,
        guidance: float = 1.0,
        batch_size: int = 64,
    ) -> Iterator[Images]:
        """The images of any seeds, in batches: memory does not grow with their number."""
        labels = labels_for(seeds, self.indices(classes))
        return sample(
            self.at(truncation), self.autoencoder, seeds, labels, truncation, guidance, batch_size
        )

    def levels(
        self,
        count: int,
        classes: Sequence[int | str] | None = None,
        truncation: float | None = None,
        guidance: float = 1.0,
        seed: int = 0,
    ) -> UInt8[Tensor, "L N 3 P P"]:
        """What every level paints, coarse to fine, for the images that `sample` draws."""
        w = self.style(count, classes, truncation, guidance, seed)
        with torch.no_grad():
            levels = self.at(truncation).synthesize(w)
        return torch.stack([self.autoencoder.decode(level).cpu() for level in levels.unbind(1)])

    def style(
        self,
        count: int,
        classes: Sequence[int | str] | None = None,
        truncation: float | None = None,
        guidance: float = 1.0,
        seed: int = 0,
    ) -> Float[Tensor, "N *S"]:
        """The styles w of the images that `sample` draws; `paint` makes images of them."""
        seeds = self._seeds(count, seed)
        labels = labels_for(seeds, self.indices(classes))
        return styles_for(self.generator, seeds, labels, truncation, guidance)

    def paint(self, w: Float[Tensor, "N *S"], level: int = -1) -> Images:
        """Images of styles: uint8 (N, 3, P, P).

        Args:
            level: 0 = coarsest, -1 = finest.

        Raises:
            ConfigError: if there is no such level.
        """
        if not -self.num_levels <= level < self.num_levels:
            raise ConfigError(f"there is no level {level}; the generator has {self.num_levels}")
        return paint(self.generator, self.autoencoder, w, level)

    def interpolate(
        self,
        seeds: tuple[int, int],
        classes: tuple[int | str, int | str] | None = None,
        steps: int = 8,
        truncation: float | None = None,
    ) -> Images:
        """Images along a straight line between two styles, both ends included.

        Where the style is the noise itself (LadaGAN, BigGAN) the middle is as if truncated.

        Args:
            seeds: of the two ends; the same twice for a walk between classes.
            classes: of the two ends; the same twice for a walk between seeds. None = those that
                `sample` gives these seeds.
            steps: images, at least 2.
            truncation: as of `sample`.
        """
        ends = self._ends(seeds, classes, truncation)
        if steps < 2:
            raise ConfigError(f"a walk of {steps} images has no two ends; ask for at least 2")
        shares = torch.linspace(0, 1, steps, device=ends[0].device)
        shares = shares.view(-1, *[1] * (ends[0].ndim - 1))
        w = torch.lerp(ends[0], ends[1], shares)
        return paint(self.at(truncation), self.autoencoder, w)

    def mix(
        self,
        seeds: tuple[int, int],
        classes: tuple[int | str, int | str] | None = None,
        cuts: Sequence[int] | None = None,
        truncation: float | None = None,
    ) -> Images:
        """Images that follow the first seed's style up to a layer, and the second's from there.

        Args:
            seeds, classes: of the two, as of `interpolate`.
            cuts: an image for each: so many layers follow the first; None = from none to all.

        Raises:
            ConfigError: if the generator does not mix styles.
        """
        generator = self.able(MixesStyles, "no styles to mix")
        layers = generator.num_styles
        a, b = self._ends(seeds, classes, truncation)
        cuts = range(layers + 1) if cuts is None else cuts
        w = torch.cat([generator.mix(a, b, cut) for cut in cuts])
        return self.paint(w)

    def attention_maps(self, w: Float[Tensor, "N *S"]) -> Float[Tensor, "N k B A H W"]:
        """How positions attend to components, by layer and head; ConfigError if it has none."""
        with torch.no_grad():
            return self.able(MapsAttention, "no components to attend to").attention_maps(w)

    def token_weights(self, w: Float[Tensor, "N *S"]) -> list[Float[Tensor, "N A G G"]]:
        """Shares of tokens in their head's query, by layer; ConfigError without such attention."""
        with torch.no_grad():
            return self.able(WeighsTokens, "no additive attention").token_weights(w)

    def able(self, ability: type, lack: str) -> Any:
        """The generator, if it has an ability; else ConfigError."""
        if not isinstance(self.generator, ability):
            raise ConfigError(f"`{self.card.model.architecture}` has {lack}")
        return self.generator

    def _ends(
        self,
        seeds: tuple[int, int],
        classes: tuple[int | str, int | str] | None,
        truncation: float | None,
    ) -> list[Float[Tensor, "1 *S"]]:
        """The styles of two seeds."""
        labels = [None if classes is None else [label] for label in classes or seeds]
        return [
            self.style(1, label, truncation, seed=seed)
            for seed, label in zip(seeds, labels, strict=True)
        ]

    def indices(self, classes: Sequence[int | str] | None) -> list[int]:
        """Class indices of indices or names; all of them for None.

        Raises:
            ConfigError: if one is unknown.
        """
        names = self.card.class_names
        if classes is None:
            return list(range(max(1, len(names))))  # an unconditional network looks at no label
        found = [self._index(label) for label in classes]
        for label in found:
            if isinstance(label, str) or not 0 <= label < len(names):
                some = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
                raise ConfigError(
                    f"there is no class `{label}`; the model knows {len(names)}: {some}",
                    "give class names or indices from 0",
                )
        if not found:
            raise ConfigError("the list of classes is empty", "leave it out to have all classes")
        return cast(list[int], found)

    def _index(self, label: int | str) -> int | str:
        """The index of a class name, or of an index in digits; what is neither as it is."""
        names = self.card.class_names
        if isinstance(label, str) and label in names:
            return names.index(label)
        return int(label) if isinstance(label, str) and label.isdecimal() else label

    def at(self, truncation: float | None) -> Generator:
        """The generator whose batch statistics fit a truncation; the last one is kept."""
        if truncation not in self._calibrated:
            self._calibrated = {truncation: calibrated(self.generator, truncation)}
        return self._calibrated[truncation]

    def _seeds(self, count: int, seed: int) -> range:
        if count < 1 or seed < 0:
            raise ConfigError(
                f"cannot draw {count} images from seed {seed}; both count from 1 and 0"
            )
        return range(seed, seed + count)


def _readme(card: Card, generator: nn.Module) -> str:
    channels, side, _ = card.shape
    millions = sum(parameter.numel() for parameter in generator.parameters()) / 1e6
    facts: dict[str, Any] = {
        "architecture": f"{card.model.architecture}, {millions:.2f} M parameters (generator)",
        "samples": f"{channels} x {side} x {side}, autoencoder `{card.autoencoder.kind}`",
        "classes": f"{len(card.class_names)}: {', '.join(card.class_names[:20])}",
        "trained for": f"{card.step:,} steps, {card.images_seen:,} images, seed {card.seed}",
    }
    lines = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    return f"""# {card.name}

{lines}

```python
import scalegan

gan = scalegan.load("path/of/this/folder")
images = gan.sample(16, seed=0)  # uint8 (N, 3, P, P)
```
"""
