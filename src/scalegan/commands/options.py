"""What each command takes: a field is a flag, the sentence below it its help text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scalegan.config.auxiliary import ClassifierConfig, FitConfig
from scalegan.config.schema import Config


@dataclass(frozen=True)
class Train:
    """Train from a recipe or a config file. The same command again goes on where a run stopped."""

    run: Path | None = None
    """Folder of the run; runs/NAME if not given."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    resume: Path | None = None
    """A checkpoint to go on from, instead of the run's newest."""
    init_from: Path | None = None
    """A snapshot or run whose weights a new run starts from."""
    dry_run: bool = False
    """Check everything and print the resolved config; train nothing."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Prepare:
    """Turn a source of images into shards to train on. The same command again goes on."""

    size: int = 0
    """Side to crop to; 0 = images are square and of one size already."""
    autoencoder: str = "identity"
    """identity (pixels), a name such as sd-vae-ft-mse, or a folder with an autoencoder's files."""
    store: Literal["moments", "mean"] = "moments"
    """What is kept where the encoder gives a distribution: moments = mean and standard deviation,
    drawn from at training time; mean = the mean alone."""
    workers: int = 0
    """Processes; 0 = one per usable core. What is written does not depend on it."""
    device: str = "cpu"
    """Where images are encoded: cpu (by the workers) or cuda."""
    shard_rows: int = 10_000
    """Rows of a shard."""
    allow_upscaling: bool = False
    """Enlarge images smaller than --size instead of leaving them out."""
    mirror: bool = False
    """Make every image's mirror image a row of its own."""
    keep_images: bool = False
    """Keep the images too, for a teacher or a classifier."""
    strict: bool = False
    """End at the first image that cannot be used, instead of listing it."""


@dataclass(frozen=True)
class Check:
    """Look at every image and label of a source. SOURCE is a path or NAME:PATH."""

    size: int = 0
    """Side that images are to be cropped to: smaller ones are reported; 0 = any size."""
    allow_upscaling: bool = False
    """Accept images smaller than --size."""
    strict: bool = False
    """Exit with 2 if a single image or label cannot be used."""
    workers: int = -1
    """Processes that decode; 0 = this one alone, -1 = one per CPU for sources of some size."""
    out: Path = Path()
    """Where shards would be written: its free space is compared."""


@dataclass(frozen=True)
class Sample:
    """Draw images of a trained generator. Image i depends on its seed alone."""

    classes: str = ""
    """Class names or indices, separated by commas; the image of seed s has class s modulo their
    number. Not given: all classes."""
    seeds: str = "0-63"
    """Seeds: 0-63, or 1,5,9."""
    truncation: float | None = None
    """Psi: 1 = none, towards 0 = more typical and less varied; BigGAN: the threshold beyond which
    noise is redrawn. Not given: none."""
    guidance: float = 1.0
    """1 = none, above = further from what classes have in common."""
    out: Path = Path("samples.png")
    """NAME.png: a grid. NAME.npz: arr_0 uint8 NHWC and arr_1 labels. Else a folder of PNGs."""
    columns: int = 0
    """Columns of the grid; 0 = as many as classes, at most 16."""
    batch_size: int = 64
    """Images made at a time."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
    autoencoder: str = ""
    """Name or folder of the autoencoder, where the snapshot's own is no longer where it was."""


@dataclass(frozen=True)
class Plan:
    """What a run will need: parameters, operations, memory, micro-batches, time and disk."""

    device: str = "auto"
    """auto, cpu, cuda: this machine. h200, h100, a100-80, a100-40, l40s, rtx4090, rtx3090: that."""
    ranks: int = 1
    """Processes, one device each."""
    measure: bool = True
    """Take a few steps if the device is here and they would take seconds; else estimate."""
    rows: int = 0
    """Images of the data set; 0 = as its files say."""
    classes: int = 0
    """Classes of the data set; 0 = as its files say."""
    side: int = 0
    """Side of the images in pixels; 0 = as the files say."""
    scale: bool = False
    """Instead: a table of what 1, 8, 64 and 512 of that GPU (h200 if none is named) would do."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Compare:
    """Train recipes on the same data by the same evaluation, at equal time or compute, and write a
    page. The same command goes on where it was stopped. Further flags hold for all recipes."""

    budget: str = "20 minutes"
    """Of each run: "20 minutes" of training, "2 PFLOP", "2000 steps" or "500k images"."""
    seeds: str = "0"
    """Seeds, each recipe trained with each: 0,1 or 0-2."""
    out: Path = Path("runs/comparison")
    """The folder of the page, of the classifier and, in runs/, of the runs."""
    points: int = 6
    """Evaluations along a run, the last one at its end."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Look:
    """Draw what a generator can show of itself, a PNG for each view. It depends on the network:
    samples, walks, truncation, levels, mixed styles, where components and tokens matter."""

    out: Path = Path("views")
    """The folder to write."""
    classes: str = ""
    """Class names or indices, separated by commas. Not given: all classes in turn."""
    seed: int = 0
    """Of the first image."""
    count: int = 8
    """Images of a row."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
    autoencoder: str = ""
    """Name or folder of the autoencoder, where the snapshot's own is no longer where it was."""


@dataclass(frozen=True)
class Doctor:
    """Look at this machine. Under torchrun the links between ranks are tested too."""

    folder: Path = Path()
    """Where runs would be written."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""


@dataclass(frozen=True)
class Info:
    """What a run or snapshot is: sizes, cost, state of training."""


@dataclass(frozen=True)
class FitAutoencoder(FitConfig):
    """Fit a small KL autoencoder to images: a latent space of one's own. The same command again
    goes on. SOURCE is a path or NAME:PATH, or shards that hold images."""

    out: Path = Path("autoencoder")
    """The folder to write, which `autoencoder.path` then names."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""


@dataclass(frozen=True)
class Evaluate:
    """Compare images with a reference: numbers, each with its protocol.

    X is a run, a snapshot, shards, a folder, or any source of images.
    """

    against: str = ""
    """The reference: as X, or an .npz of statistics, ours or ADM's; of a run, the data that it was
    trained on if not given."""
    metrics: str = "fid,prdc"
    """Separated by commas: fid, sfid, fid-infinity, kid, is, pr, dc, prdc, per-class, accuracy,
    cas, authenticity, nearest, copies, memorization, diversity."""
    features: str = ""
    """Networks that look at the images, separated by commas: inception, classifier:PATH, dinov2-l,
    transformers:PATH, timm:NAME. Not given: a run's classifier if it has one, else inception."""
    num: int = 0
    """Images of X; 0 = all there are, of a generator 10,000. Published numbers have 50,000."""
    size: int = 0
    """Side that images are cropped to; 0 = as they are, or as the generator's."""
    seed: int = 0
    """Of the first image; the others follow. Of images, of the choice of --num."""
    truncation: float | None = None
    """Psi, or for BigGAN the threshold of the noise; not given: none."""
    guidance: float = 1.0
    """1 = none."""
    classes: Literal["balanced", "uniform", "reference"] = "balanced"
    """Classes of generated images: in turn, at random, or as often as in the reference."""
    floor: bool = False
    """Measure two random halves of the reference too: what real images would score."""
    out: Path | None = None
    """Where the result is written as JSON, with all of the protocol."""
    keep: Path | None = None
    """Keep X's images: NAME.npz, or a folder of PNGs."""
    batch_size: int = 64
    """Images looked at together."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""


@dataclass(frozen=True)
class Report:
    """Write one page about a run, HTML and Markdown: images, curves, numbers with their protocol,
    cost. RUN is a run, also one that still trains, or a snapshot."""

    out: Path | None = None
    """The HTML file; RUN/report.html if not given. The Markdown file is beside it."""
    num: int = 1000
    """Images that are measured at each truncation; 0 = nothing is measured."""
    truncations: str = "0.3,0.5,0.7,1.0"
    """Psi of grids and sweep, or BigGAN's thresholds; no truncation is always among them."""
    against: str = ""
    """The reference, as `scalegan evaluate` has it; the data that the run was trained on if not
    given."""
    features: str = ""
    """The network that looks at images, one, as `scalegan evaluate` has it; the run's classifier if
    it has one, else inception."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""


@dataclass(frozen=True)
class Diff:
    """Show two results of `scalegan evaluate --out` side by side, or say why they cannot be
    compared."""


@dataclass(frozen=True)
class Statistics:
    """Write the statistics of a source's images, to compare with again and again."""

    features: str = ""
    """The network that looks at them, one, as `scalegan evaluate --features`; inception if not
    given."""
    size: int = 0
    """Side that images are cropped to; 0 = as they are."""
    num: int = 0
    """A random choice of so many; 0 = all."""
    seed: int = 0
    """Of the choice."""
    bank: bool = False
    """Keep the features of every image, which precision, recall and KID need."""
    batch_size: int = 64
    """Images looked at together."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""


@dataclass(frozen=True)
class TrainClassifier(ClassifierConfig):
    """Train a small classifier on images of one's own, to evaluate with. Takes minutes."""

    device: str = "cpu"
    """cpu, cuda or cuda:1."""


@dataclass(frozen=True)
class Convert:
    """Turn weights of GAT, LadaGAN, BigGAN or GANsformer by other code into a snapshot."""

    system: Literal["", "gat", "ladagan", "biggan", "biggan-hub", "gansformer"] = ""
    """Whose weights they are; left out, the names of the tensors say so."""
    model: Path | None = None
    """JSON with fields of the model's config that tensors do not show; of the hub's BigGAN its own
    config.json."""
    class_names: Path | None = None
    """Text file with one class name a line; numbers if not given."""
    allow_unsafe_pickle: bool = False
    """Open a file that needs full unpickling, in a child process. Only for files you trust."""
