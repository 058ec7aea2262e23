"""Sampling: from the command to the first image, latency, throughput; and what goes with it.

Random weights: they do not change what it costs. The KL decoder has Stable Diffusion's sizes, the
tiny one TAESD's. Ours and the plain way (benchmarks/plain_step.py) take turns; a ratio is the
median over rounds, with the lowest and highest. CPU time, wall time beside it.

    python -m benchmarks.sampling --out benchmarks/results/sampling.json
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tests.support.plain_step import mean_over_classes, plainly, track

from benchmarks.train_step import device_name, git
from scalegan.autoencoders.tables import make_autoencoder
from scalegan.config.models import GAT_SIZES, GATConfig
from scalegan.config.schema import AutoencoderConfig
from scalegan.inference.sampling import paint, styles_for
from scalegan.inference.snapshot import Card, save_snapshot
from scalegan.models.gat import GATGenerator
from scalegan.runtime.files import write_json

SHAPE, NUM_CLASSES = (4, 32, 32), 1000
SAMPLING = ("complex rotation", "freed memory")
"""Of what is done for speed, what sampling has part in."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="S", help="tiny, S, B, L or XL; patches of 2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = round(os.getloadavg()[0], 2)
    size = GAT_SIZES[arguments.size]
    model = GATConfig(width=size.width, depth=size.depth, num_heads=size.num_heads)
    generator = GATGenerator(model, SHAPE, NUM_CLASSES).eval()
    record: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "device": device_name("cpu"),
        "threads": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "revision": git("rev-parse", "--short", "HEAD"),
        "size": f"{arguments.size}/2",
        "start": starts(arguments.rounds),
        "generator": networks_alone(generator, arguments.batch, arguments.rounds),
        "classes": over_classes(generator, arguments.rounds),
    }
    with tempfile.TemporaryDirectory() as folder:
        record["images"] = images(generator, model, Path(folder), arguments.rounds)
    record["load_average"] = [load, round(os.getloadavg()[0], 2)]
    print(json.dumps(record, indent=1))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, record)


def starts(rounds: int) -> dict[str, Any]:
    """Seconds of processes that need no PyTorch."""
    commands = {
        "scalegan --help": ["-m", "scalegan", "--help"],
        "import scalegan": ["-c", "import scalegan"],
        "python alone": ["-c", "pass"],
    }
    return {name: process(words, 2 * rounds) for name, words in commands.items()}


def process(words: list[str], rounds: int) -> dict[str, float]:
    """Median seconds of a process, children's CPU time included."""
    wall, cpu = [], []
    for _ in range(rounds):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - start)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall_s": round(statistics.median(wall), 3), "cpu_s": round(statistics.median(cpu), 3)}


def pairs(
    ours: Callable[[], Any], plain: Callable[[], Any], rounds: int, times: int = 1
) -> dict[str, Any]:
    """Both in turn; CPU seconds of one call, and how many times ours the other is."""

    def seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
        work()  # not counted: it takes the memory that the other may have given back
        start = clock()
        for _ in range(times):
            work()
        return (clock() - start) / times

    found: dict[str, Any] = {}
    both = [
        (seconds(ours, time.process_time), seconds(plain, time.process_time)) for _ in range(rounds)
    ]
    ratios = sorted(b / a for a, b in both)
    found["ours_cpu_s"] = round(statistics.median(a for a, _ in both), 6)
    found["plain_cpu_s"] = round(statistics.median(b for _, b in both), 6)
    found["times_ours"] = [round(x, 2) for x in (statistics.median(ratios), ratios[0], ratios[-1])]
    return found


def networks_alone(generator: GATGenerator, batch: int, rounds: int) -> dict[str, Any]:
    """Seeds to samples, without a decoder."""
    found = {}
    state: Any = SimpleNamespace(networks={"generator": generator})
    for count in (1, batch):
        seeds, labels = range(count), torch.arange(count)

        @torch.no_grad()
        def ours(seeds: range = seeds, labels: torch.Tensor = labels) -> torch.Tensor:
            return generator.synthesize(styles_for(generator, seeds, labels))

        def plain(work: Callable[[], torch.Tensor] = ours) -> torch.Tensor:
            with plainly(state, *SAMPLING):
                return work()

        torch.testing.assert_close(ours(), plain(), atol=1e-4, rtol=1e-4)
        found[f"batch {count}"] = pairs(ours, plain, rounds)
    return found


def over_classes(generator: GATGenerator, rounds: int) -> dict[str, Any]:
    """What goes over 1,000 classes: moving all class means, and the mean that guidance needs."""
    labels = torch.arange(1024) % NUM_CLASSES
    w, z = torch.randn(len(labels), generator.style_mean.shape[1]), torch.randn(8, 64)
    with torch.no_grad():
        return {
            "class means, 1,000 classes in a batch of 1,024": pairs(
                lambda: generator.track(w, labels), lambda: track(generator, w, labels), rounds, 3
            ),
            "guidance mean, 8 noises": pairs(
                lambda: generator.mean_over_classes(z),
                lambda: mean_over_classes(generator, z),
                rounds,
            ),
        }


def images(generator: GATGenerator, model: GATConfig, folder: Path, rounds: int) -> dict[str, Any]:
    """From the command to the first image, and image by image, with each decoder."""
    found = {}
    for kind, make in (("kl", save_kl), ("tiny", save_tiny)):
        make(folder / kind)
        config = AutoencoderConfig(kind, str(folder / kind), "mean")  # type: ignore[arg-type]
        autoencoder = make_autoencoder(config, 3, 256)
        names = [str(index) for index in range(NUM_CLASSES)]
        card = Card("random", model, config, SHAPE, names, identity=autoencoder.identity())
        save_snapshot(folder / f"with-{kind}", card, generator, None)
        words = ["-m", "scalegan", "sample", str(folder / f"with-{kind}"), "--seeds", "0"]
        cold = process([*words, "--out", str(folder / "first.png")], 1)

        def one(seed: int = 0) -> None:
            w = styles_for(generator, [seed], torch.tensor([seed % NUM_CLASSES]))
            paint(generator, autoencoder, w)  # noqa: B023  called before the next round

        one()
        wall, cpu = time.perf_counter(), time.process_time()
        for seed in range(rounds):
            one(seed)
        found[kind] = {
            "command_to_first_image": cold,
            "batch_1_wall_s": round((time.perf_counter() - wall) / rounds, 3),
            "batch_1_cpu_s": round((time.process_time() - cpu) / rounds, 3),
        }
    return found


def save_kl(folder: Path) -> None:
    """Stable Diffusion's sizes (configuration of sd-vae-ft-mse)."""
    from diffusers import AutoencoderKL

    blocks = 4
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=256,
    ).save_pretrained(folder)


def save_tiny(folder: Path) -> None:
    """TAESD's sizes, which are diffusers' defaults."""
    from diffusers import AutoencoderTiny

    AutoencoderTiny().save_pretrained(folder)


if __name__ == "__main__":
    main()
