"""Types that all parts share, with shapes: batches, networks, and what some networks can do.

The first file to read.

Axis letters, the same in the whole package: N batch, L levels (coarse to fine), C H W channels,
height and width of a sample, K logits per sample, T tokens, S class token and tokens, D model
width, E feature width, P side of the image in pixels. `*Z` and `*S` are the shapes of noise and
style, which differ between architectures. Images are always uint8 with three channels; samples are
floats of about unit scale.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

Images = UInt8[Tensor, "N 3 P P"]
Labels = Int64[Tensor, " N"]
Levels = Float[Tensor, "N L C H W"]
"""What generators return and discriminators see; the last level is the sample."""
LevelsOrOne = Float[Tensor, "N M C H W"]
"""Levels before augmentation and noise: M is L, or 1 for a real sample that stands for all."""
Samples = Float[Tensor, "N C H W"]
Stored = UInt8[Tensor, "N ..."] | Float[Tensor, "N ..."]
"""An image as the data set holds it; only its autoencoder knows the layout."""

Teacher = Callable[[Float[Tensor, "N 3 Q Q"]], Float[Tensor, "N S E"]]
"""Frozen features of normalized images of side Q: class token first, then patches row by row."""

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's colors in [0, 1], by which images are normalized for DINOv2 and its kin."""


@dataclass(frozen=True)
class Batch:
    """One rank's micro-batch of a data set; `images` only where a teacher needs them."""

    stored: Stored
    labels: Labels
    images: Images | None = None


Share = Sequence[Batch]
"""The data of one update on one rank, cut into micro-batches."""


class DiscriminatorOutput(NamedTuple):
    """Logits and, where requested, features of the class token and of the patches."""

    logits: Float[Tensor, "N K"]
    features: Float[Tensor, "N S E"] | None


class Terms(NamedTuple):
    """Loss terms of one network's update: the loss is the batch mean of the sum of `losses`."""

    losses: dict[str, Float[Tensor, " N"]]
    watched: dict[str, Float[Tensor, " N"]]
    """Values to log, detached."""


class Generator(nn.Module, ABC):
    """A generator in two halves: from noise and labels to styles, and from styles to levels."""

    z_shape: tuple[int, ...]
    """Shape of one sample's noise."""
    num_levels: int
    """Number of levels that `synthesize` returns."""
    num_classes: int
    """0 for an unconditional network."""
    blocks: nn.ModuleList
    """The repeated part, which is compiled, recomputed or sharded from outside."""

    @abstractmethod
    def map(self, z: Float[Tensor, "N *Z"], labels: Labels) -> Float[Tensor, "N *S"]:
        """Styles of noise and labels."""

    @abstractmethod
    def synthesize(self, w: Float[Tensor, "N *S"]) -> Levels:
        """Levels of styles, coarse to fine."""

    def forward(self, z: Float[Tensor, "N *Z"], labels: Labels) -> Levels:
        return self.synthesize(self.map(z, labels))


class Discriminator(nn.Module, ABC):
    """A discriminator: logits from levels and labels."""

    blocks: nn.ModuleList
    """The repeated part, which is compiled, recomputed or sharded from outside."""
    __call__: Callable[..., DiscriminatorOutput]

    @abstractmethod
    def forward(
        self, samples: Levels, labels: Labels, with_features: bool = False
    ) -> DiscriminatorOutput:
        """Logits and, with `with_features`, features of the class token and the patches."""


@runtime_checkable
class Autoencoder(Protocol):
    """A frozen autoencoder: images to what is stored, that to samples, and samples to images."""

    shape: tuple[int, int, int]
    """(C, H, W) of a sample."""

    def encode(self, images: Images) -> Stored: ...

    def sample(self, stored: Stored) -> Samples: ...

    def decode(self, samples: Samples) -> Images: ...

    def identity(self) -> dict[str, Any]:
        """All that its outputs depend on, as JSON: kind, digest of weights, scale, factor, ..."""
        ...


class Features(NamedTuple):
    """Outputs of a feature network for images, float32."""

    pooled: Float[Tensor, "N E"]
    spatial: Float[Tensor, "N F"] | None = None
    """Spatial features, flattened."""
    logits: Float[Tensor, "N K"] | None = None


@runtime_checkable
class FeatureNetwork(Protocol):
    """A frozen network from images to features, in float32 under autocast too; it resizes them."""

    def __call__(self, images: Images) -> Features: ...

    def identity(self) -> dict[str, Any]:
        """All that its features depend on, as JSON: kind, digest of weights, layer, resize filter,
        precision."""
        ...


@runtime_checkable
class TracksStyle(Protocol):
    """Keeps running means of styles, which the trainer updates with the styles of all ranks."""

    def track(self, w: Float[Tensor, "N *S"], labels: Labels) -> None: ...


@runtime_checkable
class TruncatesStyle(Protocol):
    """Truncates styles towards their mean: psi = 1 changes nothing, psi = 0 is the mean."""

    def truncate(
        self, w: Float[Tensor, "N *S"], labels: Labels, psi: float
    ) -> Float[Tensor, "N *S"]: ...


@runtime_checkable
class MixesStyles(Protocol):
    """Mixes two styles: the first `cut` layers take w, the others `other`."""

    num_styles: int
    """Number of layers that take a style."""

    def mix(
        self, w: Float[Tensor, "N *S"], other: Float[Tensor, "N *S"], cut: int
    ) -> Float[Tensor, "N *S"]: ...


@runtime_checkable
class MapsAttention(Protocol):
    """Returns attention maps of its components: k of them, B layers, A heads."""

    def attention_maps(self, w: Float[Tensor, "N *S"]) -> Float[Tensor, "N k B A H W"]:
        """Attention of every position to every component."""
        ...


@runtime_checkable
class WeighsTokens(Protocol):
    """Returns the weights of tokens in global queries: a map of side G for every layer."""

    def token_weights(self, w: Float[Tensor, "N *S"]) -> list[Float[Tensor, "N A G G"]]:
        """Weights that add up to one over the positions, by head."""
        ...


@runtime_checkable
class WantsOrthogonalWeights(Protocol):
    """Names the weights that orthogonal regularization applies to."""

    def orthogonal_weights(self) -> list[Tensor]: ...


@runtime_checkable
class GuidesStyle(Protocol):
    """Guides styles away from the mean over all classes: scale = 1 changes nothing."""

    def guide(
        self,
        w: Float[Tensor, "N *S"],
        z: Float[Tensor, "N *Z"],
        scale: float | Float[Tensor, " N"],
    ) -> Float[Tensor, "N *S"]: ...


@runtime_checkable
class TruncatesNoise(Protocol):
    """Truncates normal noise to the truncated normal distribution, each row by itself."""

    def truncate_noise(
        self, z: Float[Tensor, "N *Z"], threshold: float
    ) -> Float[Tensor, "N *Z"]: ...


@runtime_checkable
class Calibrates(Protocol):
    """Re-estimates batch statistics on noise as it will be sampled, once per threshold."""

    def calibrate(self, z: Float[Tensor, "N *Z"], labels: Labels, batch_size: int = 64) -> None: ...
