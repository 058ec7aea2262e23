"""A whole training step, both networks: ours, the plain way, each lever alone, an older revision.

All variants take turns, round by round; a ratio is the median over rounds of the ratio within a
round, with the lowest and highest. CPU time beside wall time, because the machine may be shared.
FLOPs are counted (`scalegan.planning.cost`, without recomputation); the peak is that of one large
product.

    python -m benchmarks.train_step --sizes tiny,S --out benchmarks/results/train_step.json
    python -m benchmarks.train_step --sizes S --variants ours,plain,compiled --rounds 3
    python -m benchmarks.train_step --sizes S --levers --batch 2
    python -m benchmarks.train_step --sizes S --revision HEAD~1
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scalegan.autoencoders.pixels import Identity
from scalegan.config import reading as configs
from scalegan.config.objective import AlignmentConfig
from scalegan.config.schema import Config, GATConfig
from scalegan.interfaces import Batch
from scalegan.planning.cost import Task, count
from scalegan.planning.plan import this_machine
from scalegan.runtime.files import write_json
from scalegan.runtime.world import World
from scalegan.train import step as steps
from scalegan.train.build import build_state
from scalegan.train.state import TrainState

TASK = Task((4, 32, 32), 1000, 1, 256)
FEATURES = 768  # of DINOv2-B, whose own cost is left out
ROOT = Path(__file__).resolve().parents[1]
Times = dict[str, float]
VARIANTS = {
    "ours": {},
    "plain": {},
    "selective": {"recompute": "selective"},
    "full": {"recompute": "full"},
    "compiled": {"compile": True},
    "bfloat16": {"precision": "bfloat16"},
    "compiled bfloat16": {"compile": True, "precision": "bfloat16"},
}
TAKEN_BACK: dict[str, tuple[str, ...]] = {"plain": ()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="tiny,S", help="of tiny, S, B, L, XL; patches of 2")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", default="ours,plain")
    parser.add_argument("--levers", action="store_true", help="each thing taken back by itself")
    parser.add_argument("--revision", help="compare with this one, in a worktree of its own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="JSON; results of other calls in it are kept")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    if arguments.worker:
        serve(arguments.worker, arguments.batch, arguments.device)
        return
    load = round(os.getloadavg()[0], 2)
    for size in arguments.sizes.split(","):
        key = f"{size}/2, batch {arguments.batch}"
        if arguments.revision:
            key, found = f"{key}, revisions", revisions(size, arguments)
        else:
            key += ", levers" if arguments.levers else ""
            found = variants(size, arguments)
        found |= {
            "command": " ".join(["python", *sys.argv]),
            "date": time.strftime("%Y-%m-%d"),
            "device": device_name(arguments.device),
            "threads": torch.get_num_threads(),
            "load_average": [load, round(os.getloadavg()[0], 2)],
            "python": platform.python_version(),
            "torch": torch.__version__,
            "revision": git("rev-parse", "--short", "HEAD"),
        }
        print(json.dumps({key: found}, indent=1), flush=True)
        if arguments.out:
            kept = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(arguments.out, kept | {key: found})


def variants(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Each variant's times, and how many times ours they are."""
    from tests.support.plain_step import PLAIN, plainly

    taken_back: dict[str, tuple[str, ...]] = dict(TAKEN_BACK)
    if arguments.levers:
        taken_back |= {name: (name,) for name in PLAIN}
        names = ["ours", *PLAIN]
    else:
        names = arguments.variants.split(",")
    device = torch.device(arguments.device)
    states: dict[str, TrainState] = {}
    shared: dict[str, TrainState] = {}
    for name in names:
        key = json.dumps(VARIANTS.get(name, {}))
        shared.setdefault(key, make_state(size, arguments.batch, device, **VARIANTS.get(name, {})))
        states[name] = shared[key]
    batch = make_batch(arguments.batch, device)
    works: dict[str, Callable[[], Times]] = {}
    memory: dict[str, int] = {}
    for name in names:

        def work(name: str = name) -> Times:
            back = plainly(states[name], *taken_back[name]) if name in taken_back else nullcontext()
            with back:
                return timed_step(states[name], batch)

        work()  # warms up; compiles
        memory[name] = peak_memory(work, device)
        works[name] = work
    times = take_turns(works, arguments.rounds)
    flops = count(shared_config(size, arguments.batch), TASK).step * arguments.batch
    peak = matrix_peak(device)
    found: dict[str, Any] = {"peak_gflops_float32": round(peak / 1e9, 1)}
    found["gflop_per_image"] = round(flops / arguments.batch / 1e9, 1)
    for name, series in times.items():
        found[name] = summary(series, arguments.batch, flops, peak)
        found[name]["peak_memory_mib"] = round(memory[name] / 2**20)
        if name != "ours" and "ours" in times:
            found[name]["times_ours"] = ratios(series, times["ours"])
    return found


def matrix_peak(device: torch.device) -> float:
    """Float32 operations per second of the best of some large products; of CPU time on a CPU."""
    if device.type == "cuda":
        return this_machine(str(device), "float32").float32
    layer, matrix, seconds = nn.Linear(1024, 1024), torch.randn(1024, 1024), []
    with torch.no_grad():
        for _ in range(20):
            start = time.process_time()
            layer(matrix)
            seconds.append(time.process_time() - start)
    return 2 * 1024**3 / min(seconds)


def shared_config(size: str, batch: int, **train: Any) -> Config:
    """The recipes' objective at one size."""
    config = configs.read("gat-b2-imagenet256")
    alignment = AlignmentConfig(weight=1.0, features=FEATURES)
    return configs.resolve(
        replace(
            config,
            model=GATConfig(size=size),  # type: ignore[arg-type]
            objective=replace(config.objective, alignment=alignment),
            train=replace(config.train, batch_size=batch, **{"precision": "float32"} | train),
        )
    )


def make_state(size: str, batch: int, device: torch.device, **train: Any) -> TrainState:
    config = shared_config(size, batch, **train)
    autoencoder = Identity(*TASK.shape[:2])
    autoencoder.sample = lambda stored: stored  # type: ignore[method-assign]
    features = torch.randn(1, 257, FEATURES, generator=torch.Generator().manual_seed(0)).to(device)

    def teacher(images: torch.Tensor) -> torch.Tensor:
        return features.expand(len(images), -1, -1)

    return build_state(config, World(0, 1, device), autoencoder, TASK.num_classes, teacher)


def make_batch(count: int, device: torch.device) -> Batch:
    rng = torch.Generator().manual_seed(0)
    stored = torch.randn(count, *TASK.shape, generator=rng)
    labels = torch.randint(0, TASK.num_classes, (count,), generator=rng)
    images = torch.zeros(count, 3, 16, 16, dtype=torch.uint8)
    return Batch(stored.to(device), labels.to(device), images.to(device))


def timed_step(state: TrainState, batch: Batch) -> Times:
    """Seconds of one step and of its turns, each of which waits for the device by itself."""
    found: Times = {}
    update = steps.update

    def timed_update(state: TrainState, name: str, *rest: Any) -> Any:
        start = time.perf_counter()
        report = update(state, name, *rest)
        found[f"{name}_wall"] = time.perf_counter() - start
        return report

    steps.update = timed_update  # type: ignore[assignment]
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        steps.train_step(state, [[batch]])
    finally:
        steps.update = update
    return found | {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def take_turns(works: dict[str, Callable[[], Times]], rounds: int) -> dict[str, list[Times]]:
    """Rounds in which everything runs once, forwards and backwards in turn."""
    times: dict[str, list[Times]] = {name: [] for name in works}
    for i in range(rounds):
        for name in list(works) if i % 2 == 0 else reversed(works):
            works[name]()  # not counted: memory that the one before may have given back is taken
            times[name].append(works[name]())
            print(i, name, {k: round(v, 3) for k, v in times[name][-1].items()}, flush=True)
    return times


def summary(series: list[Times], batch: int, flops: float, peak: float) -> dict[str, Any]:
    middle = {key: statistics.median(times[key] for times in series) for key in series[0]}
    found: dict[str, Any] = {f"{key}_ms": round(1000 * value, 1) for key, value in middle.items()}
    found["images_per_second_wall"] = round(batch / middle["wall"], 3)
    found["images_per_second_cpu"] = round(batch / max(middle["cpu"], 1e-9), 3)
    found["mfu_wall"] = round(flops / middle["wall"] / peak, 3)
    found["mfu_cpu"] = round(flops / max(middle["cpu"], 1e-9) / peak, 3)
    return found


def ratios(series: list[Times], base: list[Times]) -> dict[str, list[float]]:
    """Median, lowest and highest of the ratios within rounds."""
    found = {}
    for key in ("wall", "cpu"):
        pairs = sorted(a[key] / max(b[key], 1e-9) for a, b in zip(series, base, strict=True))
        found[key] = [round(x, 3) for x in (statistics.median(pairs), pairs[0], pairs[-1])]
    return found


def peak_memory(work: Callable[[], Any], device: torch.device) -> int:
    """Bytes at the fullest moment of a step, on top of what was there before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def revisions(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """This tree against another revision, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(tree), arguments.revision)
        try:
            workers = {"ours": start(ROOT, size, arguments), "theirs": start(tree, size, arguments)}
            works = {name: (lambda worker=worker: ask(worker)) for name, worker in workers.items()}
            for work in works.values():
                work()
            times = take_turns(works, arguments.rounds)
            for worker in workers.values():
                worker.communicate()
        finally:
            git("worktree", "remove", "--force", str(tree))
    name = git("rev-parse", "--short", arguments.revision)
    return {"other_revision": name, "times_ours": ratios(times["theirs"], times["ours"])}


def start(tree: Path, size: str, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(tree / "src"), str(ROOT)])
    command = [sys.executable, "-m", __spec__.name, "--worker", size]
    command += ["--batch", str(arguments.batch), "--device", arguments.device]
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(worker: subprocess.Popen[str]) -> Times:
    assert worker.stdin and worker.stdout
    worker.stdin.write("step\n")
    worker.stdin.flush()
    times: Times = json.loads(worker.stdout.readline())
    return times


def serve(size: str, count: int, device: str) -> None:
    """One step for every line that comes in."""
    state = make_state(size, count, torch.device(device))
    batch = make_batch(count, torch.device(device))
    for _ in sys.stdin:
        print(json.dumps(timed_step(state, batch)), flush=True)


def git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    about = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
    family = ", ".join(f"{k} {about.get(k, '?')}" for k in ("cpu family", "model\t"))
    return f"{about.get('model name', '?')} ({family.replace(chr(9), '')})"


if __name__ == "__main__":
    main()
