"""Every setting of a run, typed, with its sentence: what a recipe may say.

Plain frozen dataclasses, so that `--help` needs no PyTorch. The sentence below a field is its help
text, its annotation its range; `check` holds what no one setting can show. `reading` reads, checks
and writes these; each part of the package receives its own piece.
"""

from dataclasses import dataclass, field, fields
from math import inf
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from scalegan.config.durations import SECONDS, UNITS, count_steps, parse_duration
from scalegan.config.models import Count, Decay, GATConfig, ModelConfig, Positive
from scalegan.errors import ConfigError

Amount = Annotated[float, Ge(0), Lt(inf)]
Share = Annotated[float, Ge(0), Le(1)]


# Feature widths of the named teachers (DINOv2, arXiv 2304.07193, table 17).
TEACHER_WIDTHS = {
    f"dinov2-{size}{registers}": width
    for size, width in (("s", 384), ("b", 768), ("l", 1024))
    for registers in ("", "-reg")
}


@dataclass(frozen=True)
class AutoencoderConfig:
    """What turns images into samples and back."""

    kind: str = "identity"
    """Name of the autoencoder: identity (samples are the pixels themselves, in [-1, 1]);
    sd-vae-ft-ema, sd-vae-ft-mse or taesd (these, from path or from the hub); kl or tiny (a folder
    that diffusers' save_pretrained or `scalegan autoencoder train` wrote); taef2 (a folder with
    encoder.safetensors and decoder.safetensors)."""
    path: str = ""
    """Folder with the autoencoder's files; empty takes them from the hub, where kind is a name that
    the hub knows."""
    store: Literal["moments", "mean"] = "moments"
    """What is stored of an image: mean and standard deviation of its latents, from which they are
    drawn in training (moments), or the mean alone (mean). Tiny autoencoders have no standard
    deviation."""

    def check(self) -> None:
        """Raise ConfigError if settings exclude each other or one has no effect."""
        if self.kind == "identity" and self != AutoencoderConfig():
            raise ConfigError(
                "`autoencoder` is set but its kind is identity",
                "set `autoencoder.kind`, for example to kl, or leave the rest out",
            )


@dataclass(frozen=True)
class DataConfig:
    """The real images that are trained on, with their labels."""

    source: str = "digits"
    """Where images come from: a path (a folder per class, or what lies there), or NAME:PATH, where
    NAME is folder, flat, zip, webdataset, parquet or npz; digits needs no path."""
    size: Annotated[int, Ge(0)] = 0
    """Side in pixels that images are cropped to; 0 if they are square and of one size already."""
    shards: str = ""
    """Folder that `scalegan prepare` wrote, read from the disk as needed; it takes the place of
    source."""
    conditional: bool = True
    """Whether the networks are given the class of a sample."""
    verify: Literal["digests", "sizes"] = "digests"
    """What is checked of shards before the first step: digests find any damage and take about a
    second per gigabyte that is read; sizes find missing and cut files at once."""
    held_out: Annotated[int, Ge(0)] = 0
    """Number of images that are not trained on, so that an overfitting discriminator can be
    noticed."""

    def check(self) -> None:
        """Raise ConfigError if settings exclude each other or one has no effect."""
        if bool(self.source) == bool(self.shards):
            raise ConfigError(
                "`data.source` and `data.shards` are " + ("both set" if self.source else "not set"),
                "set one of them: a source is encoded into memory at the start, shards stay on "
                "disk",
            )
        if self.source and self.verify != DataConfig.verify:
            raise ConfigError("`data.verify` is set but there are no `data.shards` to verify")
        if self.shards and self.size:
            raise ConfigError("`data.size` is set but the images of `data.shards` have their size")


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
    lazy: bool = False
    """Whether skipped steps are made up for, by `every` times the strength, and the discriminator's
    rate and betas adjusted for it (StyleGAN2, arXiv 1912.04958, appendix B)."""
    sigma: Positive = 0.01
    """Standard deviation of the step that a finite difference is measured over."""

    def check(self) -> None:
        """Raise ConfigError if a setting has no effect."""
        if self.kind == "exact" and self.sigma != PenaltyConfig.sigma:
            raise ConfigError("`objective.penalty.sigma` is set but an exact penalty has no step")
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

    def check(self) -> None:
        """Raise ConfigError if a setting has no effect."""
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
        augment = self.augment
        is_augmented = any((augment.color, augment.translation, augment.cutout, augment.flip))
        if self.consistency > 0 and not is_augmented:
            raise ConfigError(
                "`objective.consistency` is set but `objective.augment` changes nothing",
                "say how samples are augmented, or leave both out",
            )


@dataclass(frozen=True)
class OptimConfig:
    """AdamW of both networks."""

    learning_rate: Positive = 2e-4
    """Learning rate of both networks at base_width: a network of width W gets learning_rate *
    base_width / W (GAT's rule)."""
    discriminator_learning_rate: Amount = 0.0
    """Learning rate of the discriminator at base_width; 0 takes learning_rate."""
    base_width: Annotated[int, Ge(0)] = 768
    """Width at which the learning rates are stated, for architectures with a width; 0 takes them as
    they are stated."""
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    """Decay of Adam's running mean and of its running mean square, per update."""
    eps: Positive = 1e-8
    """Number that Adam adds to the root of the running mean square."""
    weight_decay: Amount = 0.0
    """Decoupled weight decay, in units of the learning rate."""
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    """Largest norm of a network's gradient; longer ones are scaled down to it, and inf lets all
    pass."""


@dataclass(frozen=True)
class TrainConfig:
    """How long a run is, how much is done at a time, and on what."""

    duration: str = "1000 steps"
    """Length of the run: a number and steps, images or epochs (k and M are understood), or seconds,
    minutes or hours of training itself: evaluations, grids and checkpoints are not counted."""
    batch_size: Count = 64
    """Images per step over all ranks and micro-batches."""
    micro_batches: Count = 1
    """Number of parts that each rank's share of the batch is cut into, to save memory."""
    discriminator_turns: Count = 1
    """Updates of the discriminator per step, each on a batch of its own."""
    style_mixing: Share = 0.0
    """Probability that a batch's styles are mixed with others from some layer on."""
    share_noise: bool = True
    """Whether both networks' turns of a step have one noise, as in GAT's official code; it saves a
    forward pass of the generator."""
    ema_decay: Decay = 0.999
    """Decay per step of the moving average of the generator, which is the network that is
    sampled."""
    ema_start: Annotated[int, Ge(0)] = 0
    """Step from which on the generator is averaged; before, the average is the generator itself."""
    ema_buffers: Literal["copy", "average"] = "copy"
    """Whether running statistics are copied into the average, or averaged like weights."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward passes (autocast); weights, losses and penalties stay float32."""
    recompute: Literal["none", "selective", "full"] = "none"
    """What the backward pass computes again to save memory: nothing (none), all of a block but its
    matrix products (selective), or whole blocks, a third more work (full). `scalegan plan` says
    what each needs."""
    compile: bool = False
    """Whether the blocks are compiled (torch.compile): faster after a minute or so of compiling at
    the start; the last bits differ from those of a run that is not compiled."""
    parallel: Literal["replicate", "shard"] = "replicate"
    """What each of several processes holds: all weights (replicate), or its part of weights,
    optimizers and average (shard, FSDP2), for networks that do not fit otherwise."""
    workers: Annotated[int, Ge(0)] = 2
    """Number of threads that read shards ahead of the step, 0 for none; more help where images are
    decoded for a teacher."""
    threads: Annotated[int, Ge(0)] = 0
    """Number of CPU threads; 0 leaves it to PyTorch. Small networks are fastest with one, and on a
    busy machine by far."""
    timeout_seconds: Amount = 600.0
    """Seconds of silence of a rank after which the run is ended and the rank named; 0 is never."""

    def check(self) -> None:
        """Raise ConfigError if the duration is none, or settings exclude each other."""
        if self.share_noise and self.discriminator_turns > 1:
            raise ConfigError(
                "`train.share_noise` is set but there are several `train.discriminator_turns`",
                "set it to false: every turn draws its own",
            )
        parse_duration(self.duration, "train.duration", (*UNITS, *SECONDS))


@dataclass(frozen=True)
class EveryConfig:
    """How often what is written: a number and steps, images or epochs."""

    log: str = "20 steps"
    """Interval between lines of metrics.jsonl: a number and steps, images or epochs."""
    samples: str = "200 steps"
    """Interval between grids of samples from fixed seeds, which are drawn with the curves."""
    evaluate: str = ""
    """Interval between evaluations, each with a snapshot of what was evaluated; empty evaluates at
    the end alone."""
    checkpoint: str = "500 steps"
    """Interval between checkpoints to resume from, each with a snapshot to use; both are also
    written at the end."""

    def check(self) -> None:
        """Raise ConfigError if an interval is none."""
        for name, text in vars(self).items():
            if text or name != "evaluate":
                parse_duration(text, f"every.{name}")


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured of a run while it trains and at its end."""

    num_images: Annotated[int, Ge(0)] = 0
    """Number of images that the averaged generator makes of seeds 0 and on; 0 measures nothing."""
    metrics: str = "fid,prdc,accuracy"
    """Names of metrics separated by commas, as `scalegan evaluate --metrics` has them."""
    features: str = ""
    """Feature networks, as `scalegan evaluate --features` has them; empty takes a classifier that
    is trained on the run's own images at first use and stays in the run's folder."""
    seconds: Positive = 300.0
    """Seconds that one evaluation during training may take; a longer one is given up with a
    notice."""


@dataclass(frozen=True)
class Config:
    """One run."""

    name: str = "run"
    """Name of the recipe."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed that every random draw of the run derives from."""
    model: ModelConfig = field(default_factory=GATConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    every: EveryConfig = field(default_factory=EveryConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    @property
    def images_per_step(self) -> int:
        """Real images that one step sees, over all ranks and all turns of the discriminator."""
        return self.train.batch_size * self.train.discriminator_turns

    def every_steps(self, num_rows: int) -> dict[str, int]:
        """Steps between things that are written, by the names of `every`; 0 = never.

        Args:
            num_rows: images of an epoch.
        """
        return {
            name: count_steps(text, f"every.{name}", self.images_per_step, num_rows) if text else 0
            for name, text in vars(self.every).items()
        }

    def check(self) -> None:
        """Raise ConfigError if settings exclude each other or one has no effect."""
        for part in fields(self):
            value = getattr(self, part.name)
            if hasattr(value, "check"):
                value.check()
        if self.train.parallel == "shard" and self.objective.penalty.kind == "exact":
            raise ConfigError(
                "`train.parallel` is `shard` but an exact penalty needs second derivatives, which "
                "sharded weights do not carry",
                "set `objective.penalty.kind` to finite-difference, or `train.parallel` to "
                "replicate",
            )
        if self.optim.base_width and not self.model.width_of("generator"):
            raise ConfigError(
                f"`optim.base_width` is set but `{self.model.architecture}` has no one width",
                "set it to 0: the rates hold as they are stated",
            )
        if self.every.evaluate and not self.evaluate.num_images:
            raise ConfigError(
                "`every.evaluate` is set but `evaluate.num_images` is 0", "set both, or neither"
            )
