"""What evaluation costs: every stage, its matrix part, its neighbors, and the memory of both.

stages: 10,000 images of a small GAT at 32 pixels, from noise to numbers, in a classifier's features
and in Inception's (random weights of the same sizes: they do not change what it costs). Inception
looks at --looked of them and the rest is extrapolated; the KL and tiny decoders are timed on
--decoded. frechet: `frechet_distance` against `scipy.linalg.sqrtm` of the product, in turns, on
covariances whose eigenvalues span six decades.
neighbors: time of precision, recall, density and coverage, and the peak memory above both banks.
statistics: time and peak memory of streamed moments for growing counts.

    python -m benchmarks.evaluation --out benchmarks/results/evaluation.json

Seconds are CPU seconds of the process: on a shared machine wall time measures the others. With
--blocks B only the first B blocks of queries are timed at 50,000 rows and the rest is extrapolated:
blocks are alike, and memory does not depend on their number.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from benchmarks.sampling import save_kl, save_tiny
from benchmarks.train_step import device_name
from scalegan.autoencoders.pixels import Identity
from scalegan.autoencoders.tables import make_autoencoder
from scalegan.config import reading as configs
from scalegan.config.models import GATConfig
from scalegan.config.schema import AutoencoderConfig
from scalegan.features.classifier import Classifier, TrainedClassifier
from scalegan.features.inception import Inception, Network
from scalegan.inference.sampling import styles_for
from scalegan.metrics.frechet import frechet_distance
from scalegan.metrics.kernel import kernel_distance
from scalegan.metrics.neighbors import ROWS, inside, nearest
from scalegan.metrics.precision_recall import density_coverage, precision_recall
from scalegan.metrics.statistics import Moments, RunningMoments, moments
from scalegan.models.gat import GATGenerator
from scalegan.runtime.files import read_json, write_json

PARTS = ("stages", "frechet", "neighbors", "statistics")
NUM_CLASSES, BATCH = 10, 50


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--blocks", type=int, default=0)
    parser.add_argument("--images", type=int, default=10_000, help="of all stages")
    parser.add_argument("--looked", type=int, default=500, help="of these, at by Inception")
    parser.add_argument("--decoded", type=int, default=4, help="of latents, by each decoder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    # One measurement of peak memory, in a process of its own.
    parser.add_argument("--alone", nargs=2, metavar=("PART", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.alone:
        measure = {"neighbors": neighbors_alone, "statistics": statistics_alone}
        part, rows = arguments.alone
        print(json.dumps(measure[part](int(rows), arguments.width, arguments.blocks)))
        return
    record: dict[str, Any] = {}
    if arguments.out and arguments.out.exists():
        record = read_json(arguments.out)  # parts can be measured one by one
    for part in arguments.parts.split(","):
        record[part] = {
            "command": " ".join(["python", *sys.argv]),
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{device_name('cpu')}, {os.cpu_count()} cores",
            "threads": arguments.threads,
            "load_average_before": round(os.getloadavg()[0], 2),
            "torch": torch.__version__,
            "scipy": scipy.__version__,
            **globals()[f"{part}_part"](arguments),
        }
        print(json.dumps({part: record[part]}, indent=1))
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(arguments.out, record)


class Stages(dict[str, float]):
    """CPU seconds by stage."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        begin = clock()
        yield
        self[stage] = self.get(stage, 0.0) + clock() - begin


@torch.no_grad()
def stages_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every stage, and how many images each has seen."""
    count, stages = arguments.images, Stages()
    generator = small_generator((3, 32, 32)).eval()
    networks = {"classifier": classifier(), "inception": Inception(random_weights(Network()))}
    last = {"classifier": count, "inception": arguments.looked}
    sums: dict[str, RunningMoments] = {}
    bank = []
    for begin in range(0, count, BATCH):
        seeds = range(begin, min(begin + BATCH, count))
        with stages.timed("draw"):
            levels = generator.synthesize(styles_for(generator, seeds, labels(seeds)))
        with stages.timed("pixels to 8 bits"):
            images = Identity(3, 32).decode(levels[:, -1])
        for name, network in networks.items():
            if begin >= last[name]:
                continue
            with stages.timed(f"features: {name}"):
                seen = network(images)
            with stages.timed(f"moments: {name}"):
                sums.setdefault(name, RunningMoments(seen.pooled.shape[1])).add(seen.pooled)
            if name == "classifier":
                bank.append(seen.pooled)
    fake = torch.cat(bank)
    real = fake.roll(1, dims=0) * 1.01  # what is compared does not change what it costs
    with stages.timed("numbers: FD (classifier)"):
        frechet_distance(moments(real), sums["classifier"].moments())
    with stages.timed("numbers: KD (classifier)"):
        kernel_distance(real, fake)
    with stages.timed("numbers: precision, recall (classifier)"):
        precision_recall(real, fake)
    with stages.timed("numbers: density, coverage (classifier)"):
        density_coverage(real, fake)
    seen_by = {stage: last["inception"] if "inception" in stage else count for stage in stages}
    for kind, save in (("kl", save_kl), ("tiny", save_tiny)):
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            config = AutoencoderConfig(kind, folder, "mean")  # type: ignore[arg-type]
            autoencoder = make_autoencoder(config, 3, 256)
        autoencoder.decode(torch.randn(1, 4, 32, 32))
        stage = f"decode to 256 pixels: {kind}"
        with stages.timed(stage):
            for _ in range(arguments.decoded):
                autoencoder.decode(torch.randn(1, 4, 32, 32))
        seen_by[stage] = arguments.decoded
    return {
        "images": count,
        "stages": {
            stage: {
                "cpu_seconds": round(seconds * count / seen_by[stage], 2),
                "measured_on": seen_by[stage],
            }
            for stage, seconds in stages.items()
        },
    }


def small_generator(shape: tuple[int, int, int]) -> GATGenerator:
    config = configs.resolve(configs.read("cifar10-small")).model
    assert isinstance(config, GATConfig)
    return GATGenerator(config, shape, NUM_CLASSES)


def labels(seeds: range) -> torch.Tensor:
    return torch.tensor(seeds) % NUM_CLASSES


def classifier() -> TrainedClassifier:
    names = [str(index) for index in range(NUM_CLASSES)]
    return TrainedClassifier(
        Classifier(NUM_CLASSES, 32), {"class_names": names, "held_out_accuracy": 0.1}
    )


def random_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if value.ndim}


def frechet_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the distance, ours and by the textbook, and how far they are apart."""
    rng = torch.Generator().manual_seed(0)
    sides = [spectrum(arguments.width, rng) for _ in range(2)]
    ours, theirs, ratios = [], [], []
    for _ in range(arguments.pairs):
        begin = clock()
        distance = frechet_distance(*sides)
        middle = clock()
        expected = textbook(*sides)
        end = clock()
        ours.append(middle - begin)
        theirs.append(end - middle)
        ratios.append(theirs[-1] / ours[-1])
    return {
        "width": arguments.width,
        "pairs": arguments.pairs,
        "ours_cpu_seconds": spread(ours),
        "sqrtm_cpu_seconds": spread(theirs),
        "ratio": spread(ratios),
        "distance": distance,
        "relative_difference": abs(distance - expected) / expected,
    }


def neighbors_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """A whole run at a size that takes minutes, and the goal of 50,000 rows on each side."""
    large = alone("neighbors", 50_000, arguments)
    arguments.blocks = 0
    return {"large": large, "whole": alone("neighbors", arguments.rows, arguments)}


def statistics_part(arguments: argparse.Namespace) -> dict[str, Any]:
    counts = (2_000, 10_000, 20_000)
    return {"width": arguments.width, "runs": [alone("statistics", n, arguments) for n in counts]}


def spectrum(width: int, rng: torch.Generator) -> Moments:
    """Moments with random axes and eigenvalues from 1e-5 to 10."""
    axes = torch.linalg.qr(torch.randn(width, width, generator=rng, dtype=torch.float64)).Q
    values = 10 ** torch.linspace(-5, 1, width, dtype=torch.float64)
    covariance = (axes * values) @ axes.T
    return Moments(
        50_000,
        torch.randn(width, generator=rng, dtype=torch.float64) / 10,
        (covariance + covariance.T) / 2,
    )


def textbook(a: Moments, b: Moments) -> float:
    root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real
    traces = a.covariance.trace() + b.covariance.trace()
    return float((a.mean - b.mean).square().sum() + traces - 2 * np.trace(root))


def neighbors_alone(rows: int, width: int, blocks: int) -> dict[str, Any]:
    real, fake = (torch.randn(rows, width, generator=seeded(i)) for i in range(2))
    fake.mul_(1.1)  # in place: a copy would hide what comes after in the peak
    nearest(real[:64], real[:64], 5)  # libraries
    before = peak_mib()
    begin = clock()
    result: dict[str, Any] = {"rows_each": rows, "width": width}
    if blocks:
        queries = real[: blocks * ROWS]
        found = nearest(queries, real, 6).distances  # the first is the row itself
        radii = found[:, -1].repeat(-(-rows // len(found)))[:rows]
        middle = clock()
        inside(queries, fake, radii, is_strict=False)
        end = clock()
        whole = rows / len(queries)
        seconds = 3 * whole * (middle - begin) + 3 * whole * (end - middle)
        result["timed_blocks"] = blocks
        result["extrapolated_cpu_seconds"] = round(seconds, 1)
    else:
        values = (*precision_recall(real, fake), *density_coverage(real, fake))
        result["precision, recall, density, coverage"] = values
        result["cpu_seconds"] = round(clock() - begin, 1)
    return result | {
        "banks_mib": round(2 * rows * width * 4 / 2**20),
        "peak_above_banks_mib": round(peak_mib() - before),
    }


def statistics_alone(rows: int, width: int, blocks: int) -> dict[str, Any]:
    running, rng = RunningMoments(width), seeded(0)
    running.add(
        torch.randn(250, width, generator=rng).relu()
    )  # warm: libraries and sums themselves
    before = peak_mib()
    seconds = 0.0
    while running.count < rows:
        part = torch.randn(250, width, generator=rng).relu()
        begin = clock()
        running.add(part)
        seconds += clock() - begin
    peak = peak_mib()
    return {
        "rows": rows,
        "cpu_seconds": round(seconds, 2),
        "peak_mib": round(peak),
        "growth_after_first_batch_mib": round(peak - before),
    }


def alone(part: str, rows: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A measurement in a process of its own, so that no peak hides another."""
    options = {name: getattr(arguments, name) for name in ("width", "threads", "blocks")}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, "-m", __spec__.name, "--alone", part, str(rows), *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def clock() -> float:
    return time.process_time()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def peak_mib() -> float:
    """Of this program alone: what getrusage says a child begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "lowest": round(min(values), 3),
        "highest": round(max(values), 3),
    }


if __name__ == "__main__":
    main()
