"""The settings of the loss terms: what `[objective]` of a recipe may say."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from scalegan.config.models import Amount, Count, Decay, Positive, Share
from scalegan.errors import ConfigError

# Feature widths of the named teachers (DINOv2, arXiv 2304.07193, table 17).
TEACHER_WIDTHS = {
    f"dinov2-{size}{registers}": width
    for size, width in (("s", 384), ("b", 768), ("l", 1024))
    for registers in ("", "-reg")
}


@dataclass(frozen=True)
class PenaltyConfig:
    """R1 and R2: the squared slope of the discriminator's summed logits."""

    kind: Literal["finite-difference", "exact"] = "finite-difference"
    """How the slope is measured: between a sample and a nearby one (finite-difference; GAT, section
    on stable training), or as the gradient with respect to what the discriminator is shown (exact,
    which needs second derivatives)."""
    r1: Amount = 0.1
    """Strength on real samples; the term is r1 / 2 times the squared slope."""
    r2: Amount = 0.1
    """Strength on fake samples; the term is r2 / 2 times the squared slope."""
    every: Count = 1
    """Number of steps from one penalty to the next."""
    share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Share of a batch that finite differences are measured on: a quarter costs half a
    discriminator pass per step instead of two (adversarial flow models, arXiv 2511.22475)."""
    lazy: bool = False
    """Whether skipped steps are made up for, by `every` times the strength, and the discriminator's
    rate and betas adjusted for it (StyleGAN2, arXiv 1912.04958, appendix B)."""
    sigma: Positive = 0.01
    """Standard deviation of the step that a finite difference is measured over."""

    def check(self) -> None:
        """Raise ConfigError if a setting has no effect."""
        if self.kind == "exact" and self.sigma != PenaltyConfig.sigma:
            raise ConfigError("`objective.penalty.sigma` is set but an exact penalty has no step")
        if self.kind == "exact" and self.share < 1:
            raise ConfigError(
                "`objective.penalty.share` is set but an exact penalty is of the whole batch",
                "set `objective.penalty.kind` to `finite-difference`, or leave it out",
            )
        if self.lazy and self.every == 1:
            raise ConfigError("`objective.penalty.lazy` is set but no step is skipped")


@dataclass(frozen=True)
class PathLengthConfig:
    """Path length regularization: the generator's slope with respect to its style stays even
    (StyleGAN2, arXiv 1912.04958)."""

    weight: Amount = 0.0
    """Strength of the penalty; 0 leaves it out."""
    every: Annotated[int, Ge(0)] = 0
    """Number of steps from one penalty to the next, made up for by as many times the strength; the
    generator's rate and betas are adjusted for it, even where the strength is 0. 0 is never."""
    decay: Decay = 0.99
    """Decay of the running mean of the slope, per penalty."""
    share: Annotated[float, Gt(0), Le(1)] = 0.5
    """Share of a batch that the penalty is measured on."""

    def check(self) -> None:
        """Raise ConfigError if the penalty has a strength but never comes."""
        if self.weight > 0 and not self.every:
            raise ConfigError(
                "`objective.path_length.weight` is set but `objective.path_length.every` is not",
                "say every how many steps; 4 is usual",
            )


@dataclass(frozen=True)
class NoiseConfig:
    """Multi-level noise-perturbed guidance: how noisy a discriminator sees each level."""

    min_information: Annotated[float, Gt(0), Le(1)] = 0.125
    """Share of the signal that is left of the coarsest level; the finest keeps all of it."""
    floor: Annotated[float, Ge(0), Lt(0.1)] = 0.01
    """Share of noise that every level has at least."""
    schedule: Literal["exponential", "linear"] = "exponential"
    """How the share of the signal falls from the finest level to the coarsest: by equal factors
    (exponential, as in GAT) or by equal differences (linear)."""

    def check(self) -> None:
        """Raise ConfigError if the coarsest level would be noise alone."""
        if self.min_information <= self.floor:
            raise ConfigError(
                f"`objective.noise.min_information` {self.min_information} is not above "
                f"`objective.noise.floor` {self.floor}",
                "the coarsest level would be noise alone",
            )


@dataclass(frozen=True)
class AugmentConfig:
    """Differentiable augmentation of what the discriminator sees; 0 switches a part off."""

    color: Share = 0.5
    """Probability of a change of brightness, saturation and contrast."""
    translation: Share = 0.125
    """Largest shift, as a fraction of the side of a sample."""
    cutout: Share = 0.5
    """Side of the square that is cut out, as a fraction of the side of a sample."""
    flip: Share = 0.4
    """Probability of a mirror image; the official code of GAT has 0.4, not 0.5."""
    in_turn: bool = False
    """Whether each change of color starts from what the one before has left, as in DiffAugment and
    LadaGAN; else all pull towards the means of the untouched sample, as in GAT."""

    paired: bool = False
    """Whether the real and the fake sample of a pair are augmented alike, each with its own noise
    (adversarial flow models, arXiv 2511.22475)."""

    @property
    def is_used(self) -> bool:
        """Whether anything is augmented."""
        return any((self.color, self.translation, self.cutout, self.flip))

    def check(self) -> None:
        """Raise ConfigError if a setting has no effect."""
        if self.paired and not self.is_used:
            raise ConfigError("`objective.augment.paired` is set but nothing is augmented")
        if self.in_turn and not self.color:
            raise ConfigError(
                "`objective.augment.in_turn` is set but `objective.augment.color` is 0",
                "it says in which order colors change; leave it out",
            )


@dataclass(frozen=True)
class AlignmentConfig:
    """Alignment of the discriminator with a frozen teacher's features."""

    weight: Amount = 0.0
    """Strength of the alignment; 0 means no teacher, and no projector in the discriminator."""
    teacher: Literal[
        "", "dinov2-s", "dinov2-b", "dinov2-l", "dinov2-s-reg", "dinov2-b-reg", "dinov2-l-reg"
    ] = ""
    """Frozen network to align with; without one, a function is handed in from Python."""
    teacher_path: str = ""
    """Folder of the teacher's weights, as `save_pretrained` writes it; empty takes them from the
    hub."""
    features: Annotated[int, Ge(0)] = 0
    """Width of the teacher's features; 0 takes that of the named teacher."""
    side: Count = 224
    """Side in pixels of the image that the teacher is shown."""

    @property
    def is_used(self) -> bool:
        """Whether there is a teacher."""
        return self.weight > 0

    def check(self) -> None:
        """Raise ConfigError if settings have no effect."""
        if not self.is_used and self != AlignmentConfig():
            raise ConfigError(
                "`objective.alignment` is set but its weight is 0", "set the weight or leave it out"
            )
        if self.teacher_path and not self.teacher:
            raise ConfigError(
                "`objective.alignment.teacher_path` is set without `objective.alignment.teacher`",
                f"name the kind of network that it holds: {', '.join(TEACHER_WIDTHS)}",
            )


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss terms of both networks."""

    adversarial: str = "relativistic"
    """Adversarial loss of both networks: relativistic (pairs of one real and one fake sample, arXiv
    1807.00734), logistic (non-saturating, arXiv 1406.2661) or hinge (arXiv 1705.02894)."""
    supervision: Literal["noise", "scales"] = "noise"
    """How a GAT's levels are supervised: all seen at once, the coarser ones with more noise (noise,
    as in GAT), or each judged by itself at a scale of its own, the coarsest smallest (scales, as in
    CAT, arXiv 2605.26449)."""
    level_consistency: Amount = 0.0
    """Strength of the pull of every level towards the last one, and of the last one towards them,
    stronger for finer levels (CAT, arXiv 2605.26449, which has 0.1)."""
    joint_batch: bool = True
    """Whether real and fake samples pass the discriminator in one batch, or one after the other: it
    matters where layers look across the batch."""
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    path_length: PathLengthConfig = field(default_factory=PathLengthConfig)
    orthogonal: Amount = 0.0
    """Strength of the generator's orthogonal regularization (BigGAN, arXiv 1809.11096)."""
    consistency: Amount = 0.0
    """Strength of balanced consistency (bCR, arXiv 2002.04724): how far logits of augmented samples
    may be from those of the samples themselves, which all other terms then see as they are."""
    centering: Amount = 0.0
    """Strength of a pull of the two logits of a pair towards opposite values, which keeps them from
    drifting together (adversarial flow models, arXiv 2511.22475, which have 0.01)."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)

    @property
    def needs_second_derivatives(self) -> bool:
        """Whether a term is made of gradients, which are differentiated in turn."""
        return self.penalty.kind == "exact" or self.path_length.weight > 0

    def check(self) -> None:
        """Raise ConfigError if terms exclude each other or one has no effect."""
        for part in (self.penalty, self.path_length, self.noise, self.augment, self.alignment):
            part.check()
        if not self.joint_batch and self.alignment.is_used:
            raise ConfigError(
                "`objective.alignment` is set but `objective.joint_batch` is false",
                "no network that is aligned looks across the batch: leave `joint_batch` out",
            )
        if self.consistency > 0 and not self.augment.is_used:
            raise ConfigError(
                "`objective.consistency` is set but `objective.augment` changes nothing",
                "say how samples are augmented, or leave both out",
            )
