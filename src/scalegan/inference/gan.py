"""A trained generator for use: images from seeds and classes, and what lies between them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from scalegan.autoencoders.tables import make_autoencoder, named
from scalegan.config.schema import AutoencoderConfig
from scalegan.errors import CheckpointError, ConfigError
from scalegan.inference.sampling import calibrated, labels_for, paint, stream_images, styles_for
from scalegan.inference.snapshot import (
    AUTOENCODER,
    Card,
    build_generator,
    image_side,
    newest,
    read_card,
)
from scalegan.interfaces import (
    Autoencoder,
    Generator,
    Images,
    Labels,
    MapsAttention,
    MixesStyles,
    WeighsTokens,
)
from scalegan.runtime.weights import load_weights


def load(path: str | Path, device: str = "cpu", autoencoder: str | Path = "") -> "GAN":
    """Load the newest snapshot of a run, a snapshot folder, or a generator of this package.

    Args:
        path: run or snapshot folder, or "pretrained:NAME".
        device: "cpu", "cuda" or "cuda:1".
        autoencoder: name or folder of the autoencoder, where it is not, or no longer, what the
            snapshot says; empty = as the snapshot says.

    Raises:
        CheckpointError: if there is none, it is damaged, or the autoencoder is not the one that it
            was trained with.
        ConfigError: if the autoencoder's files are not on this machine and not on the hub.
    """
    folder = newest(Path(path))
    card = read_card(folder)
    generator = build_generator(card)
    load_weights(generator, folder / "generator.safetensors")
    config = card.autoencoder
    if autoencoder:
        config = named(str(autoencoder), config.store)
    elif (folder / AUTOENCODER).is_dir():
        config = replace(config, path=str(folder / AUTOENCODER))
    return GAN(generator.to(device).eval(), _open_autoencoder(card, config), card)


def _open_autoencoder(card: Card, config: AutoencoderConfig) -> Autoencoder:
    """An autoencoder, if it is the one that a snapshot was trained with."""
    is_pixels = config.kind == "identity"
    channels = card.shape[0] if is_pixels else card.identity.get("image_channels", 1)
    side = card.shape[1] if is_pixels else image_side(card)
    try:
        found = make_autoencoder(config, channels, side)
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
            seed: seed of the first image.
            batch_size: images made at a time; does not change them.

        Raises:
            ConfigError: if a class is unknown or `count` is not positive.
        """
        seeds = self._seeds(count, seed)
        labels = self.labels(seeds, classes)
        return torch.cat(list(self.stream(seeds, labels, truncation, guidance, batch_size)))

    def labels(self, seeds: Sequence[int], classes: Sequence[int | str] | None = None) -> Labels:
        """The class of each seed's image, as `sample` draws it; ConfigError if one is unknown."""
        return labels_for(seeds, self.indices(classes))

    def stream(
        self,
        seeds: Sequence[int],
        labels: Labels,
        truncation: float | None = None,
        guidance: float = 1.0,
        batch_size: int = 64,
    ) -> Iterator[Images]:
        """Draw images of any seeds and labels, a batch in memory at a time."""
        return stream_images(
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
        """Images of every level, coarse to fine, of those that `sample` draws."""
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
        labels = self.labels(seeds, classes)
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
        generator = self._with_ability(MixesStyles, "no styles to mix")
        layers = generator.num_styles
        a, b = self._ends(seeds, classes, truncation)
        cuts = range(layers + 1) if cuts is None else cuts
        w = torch.cat([generator.mix(a, b, cut) for cut in cuts])
        return self.paint(w)

    def attention_maps(self, w: Float[Tensor, "N *S"]) -> Float[Tensor, "N k B A H W"]:
        """How positions attend to components, by layer and head; ConfigError if it has none."""
        with torch.no_grad():
            return self._with_ability(MapsAttention, "no components to attend to").attention_maps(w)

    def token_weights(self, w: Float[Tensor, "N *S"]) -> list[Float[Tensor, "N A G G"]]:
        """Shares of tokens in their head's query, by layer; ConfigError without such attention."""
        with torch.no_grad():
            return self._with_ability(WeighsTokens, "no additive attention").token_weights(w)

    def _with_ability(self, ability: type, lack: str) -> Any:
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
        choices = [None, None] if classes is None else [[label] for label in classes]
        return [
            self.style(1, choice, truncation, seed=seed)
            for seed, choice in zip(seeds, choices, strict=True)
        ]

    def indices(self, classes: Sequence[int | str] | None) -> list[int]:
        """Class indices of indices or names; all for None; ConfigError if one is unknown."""
        names = self.card.class_names
        if classes is None:
            return list(range(max(1, len(names))))  # an unconditional network looks at no label
        if not classes:
            raise ConfigError("the list of classes is empty", "leave it out to have all classes")
        found = []
        for label in classes:
            if isinstance(label, str) and label in names:
                label = names.index(label)
            elif isinstance(label, str) and label.isdecimal():
                label = int(label)
            if isinstance(label, str) or not 0 <= label < len(names):
                some = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
                raise ConfigError(
                    f"there is no class `{label}`; the model knows {len(names)}: {some}",
                    "give class names or indices from 0",
                )
            found.append(label)
        return found

    def at(self, truncation: float | None) -> Generator:
        """The generator with batch statistics for a truncation; the last one is remembered."""
        if truncation not in self._calibrated:
            self._calibrated = {truncation: calibrated(self.generator, truncation)}
        return self._calibrated[truncation]

    def _seeds(self, count: int, seed: int) -> range:
        if count < 1 or seed < 0:
            raise ConfigError(
                f"cannot draw {count} images from seed {seed}; both count from 1 and 0"
            )
        return range(seed, seed + count)
