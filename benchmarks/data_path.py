"""The way of latents from the disk to the step, against `np.memmap` and one file per image.

Rows of shards (4x32x32 float16, random batches through `Shards.read`) against a plain `np.memmap`
of the same files, and against what the authors' code does with its data set: `np.load` of a file
per image. They take turns; warm with all files in the page cache, cold after they were dropped from
it (`posix_fadvise`, DONTNEED; the names and sizes of files stay cached, to the advantage of files).
Then encoding: images per second of `scalegan prepare` by number of workers.

    python -m benchmarks.data_path --out benchmarks/results/data_path.json
"""

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalegan.autoencoders.tables import named
from scalegan.data.loader import Loader
from scalegan.data.prepare import prepare
from scalegan.data.shards import EncodedImage, Shards, shard_name, write_shard
from scalegan.runtime.files import read_json, write_json

SHAPE, SHARD_ROWS, BATCH_SIZE = (4, 32, 32), 10_000, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=9, help="0 = no reading")
    parser.add_argument("--images", help="a source to prepare with each number of workers")
    parser.add_argument("--autoencoder", default="identity")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--turns", type=int, default=3, help="preparations per number of workers")
    parser.add_argument("--folder", type=Path, help="where to write; the disk is what is measured")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "device": cpu_name(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.pairs:
            record["reading"] = reading(folder, arguments.rows, arguments.pairs)
        if arguments.images:
            record["encoding"] = encoding(folder, arguments)
    record["load_average_after"] = round(os.getloadavg()[0], 2)
    print(json.dumps(record, indent=1))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, record)


def reading(folder: Path, count: int, pairs: int) -> dict[str, Any]:
    """Rows per second, interleaved: warm and cold, shards and files."""
    write_both(folder, count)
    os.sync()  # only clean pages can be dropped
    names = [str(folder / "files" / f"{i}.npy") for i in range(count)]
    rng = np.random.default_rng(0)
    result: dict[str, Any] = {
        "rows": count,
        "row": "4x32x32 float16",
        "shard_rows": SHARD_ROWS,
        "batch_size": BATCH_SIZE,
        "order": "random",
        "pairs": pairs,
        "unit": "rows per second of wall time; cpu: of this process's CPU time",
    }
    for state, batches in (("warm", (200, 40)), ("cold", (20, 20))):
        rates: dict[str, list[float]] = {}
        shards: Shards | None = None
        for pair in range(pairs + 1):  # the first one warms up and does not count
            turns = {"shards": batches[0], "memmap": batches[0], "files": batches[1]}
            for kind, number in turns.items():
                indices = rng.integers(0, count, (number, BATCH_SIZE))
                if state == "cold":
                    shards = None  # mapped pages cannot be dropped
                    drop(folder, names, indices)
                shards = shards or Shards(folder / "shards")
                before = disk_bytes()
                read = {
                    "shards": partial(read_shards, shards, indices),
                    "memmap": partial(read_memmap, folder / "shards", indices),
                    "files": partial(read_files, names, indices),
                }
                wall, cpu = timed(read[kind])
                from_disk = disk_bytes() - before
                if pair:
                    rates.setdefault(kind, []).append(indices.size / wall)
                    rates.setdefault(f"{kind}, cpu", []).append(indices.size / cpu)
                    rates.setdefault(f"{kind}, KiB from disk per row", []).append(
                        from_disk / indices.size / 2**10
                    )
        for other, suffix in itertools.product(("memmap", "files"), ("", ", cpu")):
            both = zip(rates[f"shards{suffix}"], rates[f"{other}{suffix}"], strict=True)
            rates[f"ratio to {other}{suffix}"] = [a / b for a, b in both]
        result[state] = {name: spread(values) for name, values in rates.items()}
    shards = Shards(folder / "shards")
    result["loader"] = {
        f"{threads} threads": spread([loader_rate(shards, threads) for _ in range(pairs)])
        for threads in (0, 1, 2)
    }
    return result


def read_shards(shards: Shards, indices: np.ndarray) -> None:
    for batch in indices:
        shards.read(torch.from_numpy(batch))


def read_memmap(folder: Path, indices: np.ndarray) -> None:
    """As one does who maps the same files and leaves the rest to the kernel."""
    maps = [np.load(path, mmap_mode="r") for path in sorted(folder.rglob("stored.npy"))]
    for batch in indices:
        rows = [maps[shard][row] for shard, row in zip(*divmod(batch, SHARD_ROWS), strict=True)]
        torch.from_numpy(np.stack(rows))


def read_files(names: list[str], indices: np.ndarray) -> None:
    """As a data loader does that knows nothing but files."""
    for batch in indices:
        torch.from_numpy(np.stack([np.load(names[i]) for i in batch]))


def disk_bytes() -> int:
    """What this process has had read from the disk so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def write_both(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "files").mkdir()
    about = []
    for first in range(0, count, SHARD_ROWS):
        path = folder / "shards" / shard_name(first // SHARD_ROWS)
        rows = min(count, first + SHARD_ROWS) - first
        values = rng.standard_normal((rows, 1, *SHAPE), np.float32).astype(np.float16)
        images = [EncodedImage(str(first + i), i % 10, row) for i, row in enumerate(values)]
        write_shard(path, SHAPE, "float16", False, images)
        for image, row in zip(images, values, strict=True):
            np.save(folder / "files" / f"{image.key}.npy", row[0])
        digests = read_json(path / "manifest.json")
        about.append({"name": path.name, "rows": rows, "digests": digests})
    manifest = {
        "format": 1, "complete": True, "mirror": False, "keep_images": False, "side": 256,
        "row": {"shape": list(SHAPE), "dtype": "float16"},
        "class_names": [str(i) for i in range(10)], "shards": about,
    }  # fmt: skip
    write_json(folder / "shards" / "manifest.json", manifest)


def drop(folder: Path, names: list[str], indices: np.ndarray) -> None:
    """Drop from the page cache what is about to be read."""
    paths = [*folder.rglob("stored.npy"), *(Path(names[i]) for i in set(indices.ravel().tolist()))]
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def loader_rate(shards: Shards, threads: int) -> float:
    with Loader(shards, 0, BATCH_SIZE, (0, 1, 1), torch.device("cpu"), threads) as loader:
        loader.share(0, 0)
        seconds, _ = timed(lambda: [loader.share(0, i * BATCH_SIZE) for i in range(1, 151)])
    return 150 * BATCH_SIZE / seconds


def encoding(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Images per second of wall and of CPU time of whole preparations, their start included."""
    result: dict[str, Any] = {
        "source": arguments.images,
        "autoencoder": arguments.autoencoder,
        "size": arguments.size,
        "cores": len(os.sched_getaffinity(0)),
    }
    config = named(arguments.autoencoder)
    rates: dict[str, list[float]] = {}
    for turn in range(arguments.turns):  # numbers of workers take turns: others use the machine too
        for workers in map(int, arguments.workers.split(",")):
            out = folder / f"encoded-{workers}-{turn}"
            before = cpu_seconds()
            seconds, _ = timed(
                lambda out=out, workers=workers: prepare(
                    arguments.images, out, arguments.size, config, workers=workers, tell=ignore
                )
            )
            count = len(Shards(out))
            name = f"{workers} workers"
            rates.setdefault(name, []).append(count / seconds)
            rates.setdefault(f"{name}, cpu", []).append(count / (cpu_seconds() - before))
            rates.setdefault(f"{name}, cores had", []).append((cpu_seconds() - before) / seconds)
    return result | {name: spread(values) for name, values in rates.items()}


def cpu_seconds() -> float:
    """Of this process and of all that it has started and seen end."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def ignore(_: str) -> None:
    pass


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of wall time and of CPU time; the latter tells more on a machine that is shared."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def spread(values: list[float]) -> dict[str, float]:
    """Median and range, to three digits."""
    found = (statistics.median(values), min(values), max(values))
    return dict(zip(("median", "lowest", "highest"), map(rounded, found), strict=True))


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return f"{model or platform.machine()}, {len(os.sched_getaffinity(0))} cores"


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
