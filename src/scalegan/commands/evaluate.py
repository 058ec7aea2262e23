"""`scalegan evaluate`: images are compared with a reference, and numbers come with a protocol."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Ge

from scalegan.commands.flags import OUT, UNSET, Count, CountOrZero, parse_flags


@dataclass(frozen=True)
class Evaluate:
    """Compare images with a reference; each number comes with the protocol of its measurement."""

    images: tyro.conf.Positional[str]
    """What to evaluate: a run, a snapshot, shards, a folder, or any other source of images."""
    against: Annotated[str, UNSET] = ""
    """The reference: any source of images, or statistics as an .npz file (ours or ADM's);
    the data that a run was trained on if not given."""
    metrics: str = "fid,prdc"
    """Metrics separated by commas: fid, sfid, fid-infinity, kid, is, pr, dc, prdc, per-class,
    accuracy, cas, authenticity, nearest, copies, memorization, diversity."""
    features: Annotated[str, UNSET] = ""
    """Feature networks separated by commas: inception, classifier:PATH, dinov2-l,
    transformers:PATH, timm:NAME.
    If not given, the classifier of the run if it has one, else inception."""
    num: CountOrZero = 0
    """The number of images to evaluate; 0 is all there are, and 10,000 of a generator.
    Published numbers have 50,000."""
    size: CountOrZero = 0
    """The side in pixels to crop images to; 0 leaves them as they are, or as the generator's."""
    seed: CountOrZero = 0
    """The seed of the first generated image, or of the random choice of --num images."""
    truncation: Annotated[float | None, Ge(0), UNSET] = None
    """Truncation psi: 1 is off, smaller is more typical and less varied; off if not given.
    For BigGAN the threshold beyond which noise is drawn again."""
    guidance: Annotated[float, Ge(0)] = 1.0
    """Class guidance: 1 is off, larger moves images away from what all classes have in common."""
    classes: Literal["balanced", "uniform", "reference"] = "balanced"
    """The classes of generated images: balanced takes all in turn, uniform draws at random,
    reference follows their frequencies in the reference."""
    floor: bool = False
    """Compare two random halves of the reference too: what perfect images would score."""
    out: Annotated[Path | None, OUT, UNSET] = None
    """Write the numbers with their whole protocol to this JSON file."""
    keep: Annotated[Path | None, UNSET] = None
    """Keep the evaluated images: NAME.npz, or a folder of PNG files."""
    batch_size: Count = 64
    """The number of images computed at a time; it does not change the numbers."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, or auto for a GPU if there is one."""


def evaluate_command(arguments: list[str]) -> None:
    flags = parse_flags(Evaluate, "evaluate", arguments)

    from scalegan.evaluation.evaluate import Request, evaluate
    from scalegan.evaluation.images import ImageOptions
    from scalegan.evaluation.results import results_table, write_result
    from scalegan.runtime.world import join, leave

    options = ImageOptions(
        num=flags.num,
        size=flags.size,
        seed=flags.seed,
        truncation=flags.truncation,
        guidance=flags.guidance,
        classes=flags.classes,
        batch_size=flags.batch_size,
    )
    world = join(flags.device)
    request = Request(
        flags.images, flags.against, flags.metrics, flags.features, options, flags.floor
    )
    numbers = evaluate(request, world, flags.keep)
    if world.is_first:
        print("\n".join(results_table(numbers)))
        if flags.out:
            write_result(flags.out, numbers)
    leave()
