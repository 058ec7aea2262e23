"""Every setting of a run, typed, with its sentence: what a recipe may say.

Plain frozen dataclasses and nothing else, so that `--help` needs no PyTorch. The sentence below a
field is its help text. `config` reads, checks and writes these; each part of the package receives
its own piece.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MultipleOf

from scalegan.config.models import Count, Decay, GATConfig, Model, Positive

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
    """What a sample is made of."""

    kind: Literal["identity", "sd-vae-ft-ema", "sd-vae-ft-mse", "kl", "taesd", "tiny", "taef2"] = (
        "identity"
    )
    """identity: samples are the pixels themselves, in [-1, 1]. sd-vae-ft-ema, sd-vae-ft-mse, taesd:
    these, from path or from the hub. kl, tiny: a folder that diffusers' save_pretrained or
    `scalegan autoencoder train` wrote. taef2: encoder.safetensors and decoder.safetensors."""
    path: str = ""
    """Folder with the autoencoder's files; empty = the hub, where kind is a name it knows."""
    store: Literal["moments", "mean"] = "moments"
    """What is kept of a image: moments = mean and standard deviation of its latents, drawn from
    at training time; mean = the mean alone. Tiny ones have no standard deviation."""


@dataclass(frozen=True)
class FitConfig:
    """A KL autoencoder of one's own."""

    size: Annotated[int, Ge(0)] = 0
    """Side that images are cropped to; 0 = they are square and of one size already."""
    factor: Literal[2, 4, 8, 16] = 4
    """Side of a image over side of its latents."""
    channels: Count = 4
    """Channels of the latents."""
    width: Annotated[int, Ge(8), MultipleOf(8)] = 32
    """Channels of the first layer; they double with each halving of the side, up to four times."""
    depth: Count = 1
    """Residual blocks per resolution."""
    duration: str = "2000 steps"
    """A number and steps, images or epochs (k and M are understood)."""
    batch_size: Count = 32
    """Images per step."""
    learning_rate: Positive = 1e-3
    """Of AdamW; rises over the first steps and falls to zero along a cosine."""
    kl: Amount = 1e-6
    """Strength of the pull of the latents towards the standard normal, per image."""
    structure: Amount = 1.0
    """Strength of 1 - SSIM, mean over scales, beside the mean absolute error."""
    lpips: Amount = 1.0
    """Strength of LPIPS, where lpips_path is set."""
    lpips_path: str = ""
    """LPIPS's weights on VGG16 or AlexNet, as a safetensors file; empty = no such term."""
    adversarial: Amount = 0.0
    """Strength of a small patch discriminator's loss in the second half of the run; 0 = none."""
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Share of the images, at most 512 of them, that quality is measured on and that are not
    trained on."""
    checkpoint: str = "500 steps"
    """Time between checkpoints, from which the same command goes on."""
    seed: Annotated[int, Ge(0)] = 0
    """Every random draw derives from it."""


@dataclass(frozen=True)
class ClassifierConfig:
    """A small classifier of one's own images."""

    size: Annotated[int, Ge(0)] = 0
    """Side that images are cropped to; 0 = they are square and of one size already."""
    num_images: Count = 50_000
    """Images it is trained on at most, a random choice of the source's; they stay in memory."""
    images_seen: Count = 300_000
    """Images seen at most, repeats counted; small sets are seen 30 times."""
    batch_size: Count = 128
    """Images per step; smaller sets take a smaller one."""
    learning_rate: Positive = 4e-3
    """Of AdamW; rises over the first steps and falls to zero."""
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the images, 5,000 at most, that its own accuracy is measured on."""
    flip: bool = False
    """Mirror images at random: for photographs, not for letters."""
    seed: Annotated[int, Ge(0)] = 0
    """Every random draw derives from it."""


@dataclass(frozen=True)
class DataConfig:
    """Real labelled images."""

    source: str = "digits"
    """A path (a folder per class, or what lies there), or NAME:PATH: folder, flat, zip, webdataset,
    parquet, npz, digits."""
    size: Annotated[int, Ge(0)] = 0
    """Side that images are cropped to; 0 = they are square and of one size already."""
    shards: str = ""
    """Folder that `scalegan prepare` wrote, read from the disk as needed; source is empty then."""
    conditional: bool = True
    """Whether the networks are told the class of a sample."""
    verify: Literal["digests", "sizes"] = "digests"
    """What is checked of shards before the first step: digests find any damage and take about a
    second per gigabyte that is read; sizes find missing and cut files at once."""
    held_out: Annotated[int, Ge(0)] = 0
    """Images that are not trained on, so that an overfitting discriminator can be noticed."""


@dataclass(frozen=True)
class PenaltyConfig:
    """R1 and R2: the squared slope of the discriminator's summed logits."""

    kind: Literal["finite-difference", "exact"] = "finite-difference"
    """finite-difference: between a sample and a nearby one (GAT, section on stable training).
    exact: the gradient with respect to what the discriminator is shown; needs second derivatives.
    """
    r1: Amount = 0.1
    """Strength on real samples; the term is r1 / 2 times the squared slope."""
    r2: Amount = 0.1
    """Strength on fake samples."""
    every: Count = 1
    """Steps between penalties."""
    lazy: bool = False
    """Whether skipped steps are made up for, by `every` times the strength, and the
    discriminator's rate and betas adjusted for it (StyleGAN2, arXiv 1912.04958, appendix B)."""
    sigma: Positive = 0.01
    """Standard deviation of the step that a finite difference is measured over."""


@dataclass(frozen=True)
class PathLengthConfig:
    """The generator's slope with respect to its style, kept even (StyleGAN2, arXiv 1912.04958)."""

    weight: Amount = 0.0
    """Strength; 0 = none."""
    every: Annotated[int, Ge(0)] = 0
    """Steps between penalties, which are made up for by `every` times the strength; the
    generator's rate and betas are adjusted for it, even where the strength is 0. 0 = never."""
    decay: Decay = 0.99
    """Of the running mean of the slope."""
    share: Annotated[float, Gt(0), Le(1)] = 0.5
    """Of a batch that the penalty is measured on."""


@dataclass(frozen=True)
class NoiseConfig:
    """Multi-level noise-perturbed guidance: how noisy a discriminator sees each level."""

    min_information: Annotated[float, Gt(0), Le(1)] = 0.125
    """What is left of the coarsest level; the finest keeps all of it."""
    floor: Annotated[float, Ge(0), Lt(0.1)] = 0.01
    """Noise added to every level's share."""


@dataclass(frozen=True)
class AugmentConfig:
    """Differentiable augmentation of what the discriminator sees; 0 switches a part off."""

    color: Share = 0.5
    """Probability of a change of brightness, saturation and contrast."""
    translation: Share = 0.125
    """Largest shift, as a fraction of the side."""
    cutout: Share = 0.5
    """Side of the square that is cut out, as a fraction of the side."""
    flip: Share = 0.4
    """Probability of a mirror image; the official code has 0.4, not 0.5."""
    in_turn: bool = False
    """Each change of color starts from what the one before has left, as in DiffAugment and LadaGAN;
    else all pull towards the means of the untouched sample, as in GAT."""


@dataclass(frozen=True)
class AlignmentConfig:
    """Alignment of the discriminator with a frozen teacher's features."""

    weight: Amount = 0.0
    """Strength; 0 = no teacher, and no projector in the discriminator."""
    teacher: Literal[
        "", "dinov2-s", "dinov2-b", "dinov2-l", "dinov2-s-reg", "dinov2-b-reg", "dinov2-l-reg"
    ] = ""
    """Frozen network to align with; without one, a function is handed in from Python."""
    teacher_path: str = ""
    """Folder of the teacher's weights, as `save_pretrained` writes it; empty = from the hub."""
    features: Annotated[int, Ge(0)] = 0
    """Feature width of the teacher; 0 = the named teacher's own."""
    side: Count = 224
    """Side of the image that the teacher is shown."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss terms of both networks."""

    adversarial: Literal["relativistic", "logistic", "hinge"] = "relativistic"
    """relativistic: pairs of one real and one fake sample (arXiv 1807.00734). logistic:
    non-saturating (arXiv 1406.2661). hinge: arXiv 1705.02894."""
    joint_batch: bool = True
    """Real and fake samples pass the discriminator together, or one after the other: it matters
    where layers look across the batch."""
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


@dataclass(frozen=True)
class OptimConfig:
    """AdamW for both networks."""

    learning_rate: Positive = 2e-4
    """At base_width: a network of width W gets learning_rate * base_width / W (GAT's rule)."""
    discriminator_learning_rate: Amount = 0.0
    """Of the discriminator; 0 = learning_rate."""
    base_width: Annotated[int, Ge(0)] = 768
    """Width at which the rates are stated; 0 = they hold for any width."""
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    """Decay of Adam's running mean and mean square."""
    eps: Positive = 1e-8
    """Adam's epsilon."""
    weight_decay: Amount = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    """Gradients longer than this are scaled down to it, per network; inf = none are."""


@dataclass(frozen=True)
class TrainConfig:
    """How long, how much at a time, and on what."""

    duration: str = "1000 steps"
    """Length of the run: a number and steps, images or epochs (k and M are understood), or seconds,
    minutes or hours of training itself: evaluations, grids and checkpoints are not counted."""
    batch_size: Count = 64
    """Images per step over all ranks and micro-batches."""
    micro_batches: Count = 1
    """Parts that each rank's share of the batch is cut into, to save memory."""
    discriminator_turns: Count = 1
    """Updates of the discriminator per step, each on a batch of its own."""
    style_mixing: Share = 0.0
    """Probability that a batch's styles are mixed with others from some layer on."""
    share_noise: bool = True
    """One noise for both networks' turns of a step, as the official code does; saves a forward."""
    ema_decay: Decay = 0.999
    """Decay of the moving average of the generator, which is the one that is sampled."""
    ema_start: Annotated[int, Ge(0)] = 0
    """Step from which on it averages; before, it is the generator itself."""
    ema_buffers: Literal["copy", "average"] = "copy"
    """Whether running statistics are copied into the average, or averaged like weights."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Autocast of the forward passes; weights, losses and penalties stay float32."""
    recompute: Literal["none", "selective", "full"] = "none"
    """What the backward pass computes again to save memory: none; selective = all of a block but
    its products; full = whole blocks, a third more work. `plan` says what each needs."""
    compile: bool = False
    """Compile the blocks (torch.compile): faster after a minute or so of compiling at the start;
    the last bits differ from those of a run that is not compiled."""
    parallel: Literal["replicate", "shard"] = "replicate"
    """Over several processes: replicate = each holds all weights; shard = each holds its part of
    weights, optimizers and average (FSDP2), for networks that do not fit otherwise."""
    workers: Annotated[int, Ge(0)] = 2
    """Threads that read shards ahead of the step; 0 = none. More help where images are decoded
    for a teacher."""
    threads: Annotated[int, Ge(0)] = 0
    """CPU threads; 0 = PyTorch's choice. Small networks are fastest, and on a busy machine by far,
    with one."""
    timeout_seconds: Amount = 600.0
    """Silence of a rank after which the run is ended and the rank named; 0 = never."""


@dataclass(frozen=True)
class EveryConfig:
    """How often what is written: a number and steps, images or epochs."""

    log: str = "20 steps"
    """A line of metrics.jsonl."""
    samples: str = "200 steps"
    """A grid of samples from fixed seeds, and the curves."""
    evaluate: str = ""
    """An evaluation, and a snapshot of what was evaluated; empty = at the end alone."""
    checkpoint: str = "500 steps"
    """A checkpoint to resume from and a snapshot to use; both are also written at the end."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured of a run while it trains and at its end."""

    num_images: Annotated[int, Ge(0)] = 0
    """Images that are drawn of the averaged generator, seeds 0 and on; 0 = nothing is measured."""
    metrics: str = "fid,prdc,accuracy"
    """Names separated by commas, as `scalegan evaluate --metrics` has them."""
    features: str = ""
    """Feature networks, as `scalegan evaluate --features` has them; empty = a classifier that is
    trained on the run's own images at first use and kept in the run's folder."""
    seconds: Positive = 300.0
    """Budget of one evaluation during training; one that takes longer is given up, aloud."""


@dataclass(frozen=True)
class Config:
    """One run."""

    name: str = "run"
    """Name of the recipe."""
    seed: Annotated[int, Ge(0)] = 0
    """Every random draw of the run derives from it."""
    model: Model = field(default_factory=GATConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    every: EveryConfig = field(default_factory=EveryConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
