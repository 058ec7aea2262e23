"""What the check for values that are not finite costs: steps with it and without, interleaved.

    python -m benchmarks.finite_check --size tiny --pairs 40 --out benchmarks/results/FILE.json

"With" looks at all terms, both gradient norms and every buffer, and waits once per turn; "without"
believes that all is well. Everything else of the step is the same.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from scalegan.config import reading as configs
from scalegan.runtime.world import World
from scalegan.train import state as states
from scalegan.train.build import build_state
from scalegan.train.step import train_step


def believe(values: list, wish: torch.Tensor) -> tuple[bool, bool]:
    return True, False


def nothing(tensors: list, device: torch.device) -> torch.Tensor:
    return torch.zeros((), device=device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny", help="tiny, S, B ...; latents of 4x32x32")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    state, batch = prepare(options, device)
    both = {"with": (states.is_sound, states.largest), "without": (believe, nothing)}
    # Time of the process where it computes by itself: a busy machine disturbs that less.
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for pair in range(options.pairs + 2):
        for name in sorted(both, reverse=pair % 2 == 0):
            states.is_sound, states.largest = both[name]
            since = clock()
            train_step(state, [[batch]])
            if device.type == "cuda":
                torch.cuda.synchronize()
            if pair >= 2:
                seconds[name].append(clock() - since)
    ratios = [a / b - 1 for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    check = time_check(state, both["with"])
    found = {
        "size": options.size,
        "batch_size": options.batch_size,
        "device": str(device),
        "torch": torch.__version__,
        "pairs": options.pairs,
        "ms_with": 1e3 * statistics.median(seconds["with"]),
        "ms_without": 1e3 * statistics.median(seconds["without"]),
        "median_of_pairs": statistics.median(ratios),
        "quartiles_of_pairs": statistics.quantiles(ratios, n=4),
        "ms_check_alone": 1e3 * check,
        "check_alone_share": 2 * check / statistics.median(seconds["without"]),
    }
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def prepare(options: argparse.Namespace, device: torch.device) -> tuple:
    """A state on latents of 4x32x32, and a batch."""
    from scalegan.autoencoders.pixels import Identity
    from scalegan.interfaces import Batch

    given = configs.read("gat-b2-imagenet256")
    alignment = type(given.objective.alignment)()
    model = replace(given.model, size=options.size, width=0, depth=0, num_heads=0)
    config = configs.resolve(
        replace(
            given,
            model=model,
            objective=replace(given.objective, alignment=alignment),
            train=replace(given.train, batch_size=options.batch_size, precision="float32"),
        )
    )
    world = World(0, 1, device)
    state = build_state(config, world, Identity(4, 32), options.classes)
    stored = torch.randint(0, 256, (options.batch_size, 4, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, options.classes, (options.batch_size,))
    return state, Batch(stored.to(device), labels.to(device))


def time_check(state: states.TrainState, functions: tuple) -> float:
    """Seconds of one turn's check by itself."""
    is_sound, largest = functions
    values = [torch.zeros((), device=state.world.device) for _ in range(8)]
    wish = torch.zeros((), device=state.world.device)
    times = []
    clock = time.perf_counter
    for _ in range(50):
        since = clock()
        is_sound([*values, largest(state.moving_buffers, state.world.device)], wish)
        times.append(clock() - since)
    return statistics.median(times)


if __name__ == "__main__":
    main()
