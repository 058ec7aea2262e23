"""Every setting of a run, typed, with its sentence: what a recipe may say.

Plain frozen dataclasses and nothing else, so that `--help` needs no PyTorch. The sentence below a
field is its help text. `config` reads, checks and writes these; each part of the package receives
its own piece.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Lt, MultipleOf

Count = Annotated[int, Ge(1)]
Amount = Annotated[float, Ge(0), Lt(inf)]
Positive = Annotated[float, Gt(0), Lt(inf)]
Share = Annotated[float, Ge(0), Le(1)]
Decay = Annotated[float, Ge(0), Lt(1)]


class Size(NamedTuple):
    """What a named size stands for."""

    width: int
    depth: int
    num_heads: int


GAT_SIZES = {
    "tiny": Size(96, 4, 4),  # ours, for CPUs; the others are published
    "S": Size(384, 12, 6),
    "B": Size(768, 12, 12),
    "L": Size(1024, 24, 16),
    "XL": Size(1152, 28, 16),
}

# Feature widths of the named teachers (DINOv2, arXiv 2304.07193, table 17).
TEACHER_WIDTHS = {
    f"dinov2-{size}{registers}": width
    for size, width in (("s", 384), ("b", 768), ("l", 1024))
    for registers in ("", "-reg")
}


@dataclass(frozen=True)
class GATConfig:
    """A GAT generator and discriminator of one size (arXiv 2509.24935)."""

    architecture: Literal["gat"] = "gat"
    """Which pair of networks."""
    size: Literal["", "tiny", "S", "B", "L", "XL"] = ""
    """A published size, or tiny for CPUs: fills in width, depth and num_heads where they are 0."""
    width: Annotated[int, Ge(0)] = 0
    """Channels of a token, a multiple of four; 0 = from size."""
    depth: Annotated[int, Ge(0)] = 0
    """Transformer blocks, a multiple of num_levels; 0 = from size."""
    num_heads: Annotated[int, Ge(0)] = 0
    """Attention heads; width / num_heads is a multiple of four; 0 = from size."""
    patch_size: Count = 2
    """Side of a patch; divides the side of a sample."""
    mlp_ratio: Positive = 4.0
    """Feed-forward width over token width, before SwiGLU's factor 2/3."""
    num_levels: Count = 4
    """Images a generator makes and a discriminator sees, coarse to fine."""
    z_width: Count = 64
    """Length of the noise vector."""
    label_width: Count = 2048
    """Length of the discriminator's label vector, which the logit is an inner product with."""
    projector_width: Count = 2048
    """Hidden width of the projector that is aligned with a teacher."""
    style_decay: Decay = 0.995
    """Decay of the running class means of the style."""


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
    """What is kept of a picture: moments = mean and standard deviation of its latents, drawn from
    at training time; mean = the mean alone. Tiny ones have no standard deviation."""


@dataclass(frozen=True)
class FitConfig:
    """A KL autoencoder of one's own."""

    size: Annotated[int, Ge(0)] = 0
    """Side of the pictures; 0 = as they are. Larger ones are scaled down to it."""
    factor: Literal[2, 4, 8, 16] = 4
    """Side of a picture over side of its latents."""
    channels: Count = 4
    """Channels of the latents."""
    width: Annotated[int, Ge(8), MultipleOf(8)] = 32
    """Channels of the first layer; they double with each halving of the side, up to four times."""
    depth: Count = 1
    """Residual blocks per resolution."""
    duration: str = "2000 steps"
    """A number and steps, images or epochs (k and M are understood)."""
    batch_size: Count = 32
    """Pictures per step."""
    learning_rate: Positive = 1e-3
    """Of AdamW; rises over the first steps and falls to zero along a cosine."""
    kl: Amount = 1e-6
    """Strength of the pull of the latents towards the standard normal, per picture."""
    structure: Amount = 1.0
    """Strength of 1 - SSIM, mean over scales, beside the mean absolute error."""
    adversarial: Amount = 0.0
    """Strength of a small patch discriminator's loss in the second half of the run; 0 = none."""
    held_out: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Share of the pictures that quality is measured on and that are not trained on."""
    seed: Annotated[int, Ge(0)] = 0
    """Every random draw derives from it."""


@dataclass(frozen=True)
class DataConfig:
    """Real labelled images."""

    source: str = "digits"
    """A path (a folder per class, or what lies there), or NAME:PATH: folder, flat, zip, webdataset,
    parquet, npz, digits."""
    size: Annotated[int, Ge(0)] = 0
    """Side that pictures are cropped to; 0 = they are square and of one size already."""
    shards: str = ""
    """Folder that `scalegan prepare` wrote, read from the disk as needed; source is empty then."""
    verify: Literal["digests", "sizes"] = "digests"
    """What is checked of shards before the first step: digests find any damage and take about a
    second per gigabyte that is read; sizes find missing and cut files at once."""


@dataclass(frozen=True)
class PenaltyConfig:
    """R1 and R2 by finite differences (GAT, section on stable training)."""

    r1: Amount = 0.1
    """Strength on real samples; the term is r1 / 2 times the squared slope."""
    r2: Amount = 0.1
    """Strength on fake samples."""
    every: Count = 1
    """Steps between penalties; skipped steps are not made up for."""
    sigma: Positive = 0.01
    """Standard deviation of the step that the slope is measured over."""


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
    """Side of the picture that the teacher is shown."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss terms of both networks."""

    adversarial: Literal["relativistic"] = "relativistic"
    """relativistic: pairs of one real and one fake sample (arXiv 1807.00734)."""
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)


@dataclass(frozen=True)
class OptimConfig:
    """AdamW for both networks."""

    learning_rate: Positive = 2e-4
    """At width 768: a network of width W gets learning_rate * 768 / W (GAT's scaling rule)."""
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
    """Length of the run: a number and steps, images or epochs (k and M are understood)."""
    batch_size: Count = 64
    """Images per step over all ranks and micro-batches."""
    micro_batches: Count = 1
    """Parts that each rank's share of the batch is cut into, to save memory."""
    share_noise: bool = True
    """One noise for both networks' turns of a step, as the official code does; saves a forward."""
    ema_decay: Decay = 0.999
    """Decay of the moving average of the generator, which is the one that is sampled."""
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
    """Threads that read shards ahead of the step; 0 = none. More help where pictures are decoded
    for a teacher."""
    threads: Annotated[int, Ge(0)] = 0
    """CPU threads; 0 = PyTorch's choice. Small networks are fastest, and on a busy machine by far,
    with one."""


@dataclass(frozen=True)
class EveryConfig:
    """How often what is written; the same units as duration."""

    log: str = "20 steps"
    """A line of metrics.jsonl."""
    samples: str = "200 steps"
    """A grid of samples from fixed seeds, and the curves."""
    checkpoint: str = "500 steps"
    """A checkpoint to resume from and a snapshot to use; both are also written at the end."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured at the end of a run."""

    num_images: Annotated[int, Ge(0)] = 0
    """Samples that a judge trained on the run's own real images scores; 0 = no judgement."""


@dataclass(frozen=True)
class Config:
    """One run."""

    name: str = "run"
    """Name of the recipe."""
    seed: Annotated[int, Ge(0)] = 0
    """Every random draw of the run derives from it."""
    model: GATConfig = field(default_factory=GATConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    every: EveryConfig = field(default_factory=EveryConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
