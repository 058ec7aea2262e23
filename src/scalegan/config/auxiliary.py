"""Settings of what is trained beside a run: an autoencoder or a classifier of one's own images."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt, MultipleOf

from scalegan.config.durations import parse_duration
from scalegan.config.models import Amount, Count, Positive, Share
from scalegan.errors import ConfigError


@dataclass(frozen=True)
class FitConfig:
    """An autoencoder of one's own images."""

    kind: Literal["kl", "linear"] = "kl"
    """What it is: a network that is trained (kl), or the principal components of patches, which are
    computed in seconds and take only size, factor, channels, whitening, held_out and seed
    (linear)."""
    size: Annotated[int, Ge(0)] = 0
    """Side in pixels that images are cropped to; 0 if they are square and of one size already."""
    factor: Literal[2, 4, 8, 16] = 4
    """Side of an image over the side of its latents."""
    channels: Count = 4
    """Channels of the latents."""
    whitening: Share = 0.5
    """How far a linear autoencoder makes its channels equally strong: each is divided by its
    standard deviation to this power, from 0 (as the components are) to 1 (all of unit variance)."""
    width: Annotated[int, Ge(8), MultipleOf(8)] = 32
    """Channels of the first layer; they double with each halving of the side, up to four times."""
    depth: Count = 1
    """Residual blocks at each resolution."""
    duration: str = "2000 steps"
    """Length of the training: a number and steps, images or epochs (k and M are understood)."""
    batch_size: Count = 32
    """Images per step."""
    learning_rate: Positive = 1e-3
    """Largest learning rate of AdamW: it rises over the first steps and falls to zero along a
    cosine."""
    kl: Amount = 1e-6
    """Strength of the KL divergence of the latents from the standard normal, per image."""
    structure: Amount = 1.0
    """Strength of 1 - SSIM, mean over scales, beside the mean absolute error."""
    lpips: Amount = 1.0
    """Strength of LPIPS, where lpips_path is set."""
    lpips_path: str = ""
    """Weights of LPIPS on VGG16 or AlexNet, as a safetensors file; empty leaves the term out."""
    adversarial: Amount = 0.0
    """Strength of a small patch discriminator's loss in the second half of the run; 0 leaves it
    out."""
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Share of the images, at most 512 of them, that are not trained on, and that quality is
    measured on."""
    checkpoint: str = "500 steps"
    """Time between checkpoints, from which the same command goes on: a number and steps, images or
    epochs."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed that every random draw derives from."""

    def check(self) -> None:
        """Raise ConfigError if a duration is none or a setting has no effect."""
        parse_duration(self.duration, "duration")
        if self.kind == "linear":
            used = ("kind", "size", "factor", "channels", "whitening", "held_out", "seed")
            usual = FitConfig()
            for name, value in vars(self).items():
                if name not in used and value != getattr(usual, name):
                    raise ConfigError(
                        f"`{name}` is set but a linear autoencoder is not trained",
                        f"it takes {', '.join(used[1:])}",
                    )
        elif self.whitening != FitConfig.whitening:
            raise ConfigError(
                "`whitening` is set but the autoencoder is not linear", "add --kind linear"
            )
        parse_duration(self.checkpoint, "checkpoint")
        if self.lpips != FitConfig.lpips and not self.lpips_path:
            raise ConfigError("`lpips` is set but there is no `lpips_path`", "set it to a file")


@dataclass(frozen=True)
class ClassifierConfig:
    """A small classifier that is trained on one's own images, for evaluation."""

    size: Annotated[int, Ge(0)] = 0
    """Side in pixels that images are cropped to; 0 if they are square and of one size already."""
    num_images: Count = 50_000
    """Largest number of images it is trained on, a random choice that stays in memory."""
    images_seen: Count = 300_000
    """Largest number of images it sees, repeats counted; each image of a small set is seen 30
    times."""
    batch_size: Count = 128
    """Images per step; a set of few images takes fewer."""
    learning_rate: Positive = 4e-3
    """Largest learning rate of AdamW: it rises over the first steps and falls to zero."""
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the images, at most 5,000 of them, that are not trained on, and that its accuracy is
    measured on."""
    flip: bool = False
    """Whether images are mirrored at random: right for photographs, not for letters."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed that every random draw derives from."""
