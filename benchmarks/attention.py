"""Additive attention against fused dot-product attention: where does each win?

Layers of one width, with their maps into q, k and v and out of the heads: LadaGAN's additive
attention, and the same maps around PyTorch's fused `scaled_dot_product_attention`. Times are
medians of interleaved pairs in one process; memory is the highest resident size above that before
the call, in a fresh process each.

    python -m benchmarks.attention --out benchmarks/results/attention.json
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scalegan.layers.attention import AdditiveAttention

SECONDS_PER_SIZE = 20.0
FEWEST_PAIRS, MOST_PAIRS = 3, 31


class DotProductAttention(nn.Module):
    """The usual attention, without norms and positions, which are no part of the question."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.into(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


KINDS = {"additive": AdditiveAttention, "dot_product": DotProductAttention}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--tokens", default="64,256,1024,4096,16384")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--probe", help=argparse.SUPPRESS)  # "KIND TOKENS PASS", in a child process
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.probe:
        kind, tokens, name = arguments.probe.split()
        return print(probe(*prepare(kind, int(tokens), arguments), name))
    rows = []
    for tokens in map(int, arguments.tokens.split(",")):
        rows.append({"tokens": tokens, **compare(tokens, arguments)})
        print(json.dumps(rows[-1]), flush=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{processor()}, one thread",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 1),
        "about": f"batch 1, width {arguments.width}, {arguments.num_heads} heads, float32",
        "rows": rows,
    }
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


def compare(tokens: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Times and memory of both kinds at one number of tokens."""
    calls = {kind: prepare(kind, tokens, arguments) for kind in KINDS}
    row: dict[str, Any] = {}
    for name, run in PASSES.items():
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for layer, x in calls.values():
            run(layer, x)  # warm
        until = time.perf_counter() + SECONDS_PER_SIZE / len(PASSES)
        for pair in range(MOST_PAIRS):
            if pair >= FEWEST_PAIRS and time.perf_counter() > until:
                break
            for kind in sorted(KINDS, reverse=bool(pair % 2)):
                seconds[kind].append(timed(run, *calls[kind]))
        found = {kind: statistics.median(times) for kind, times in seconds.items()}
        ratios = [b / a for a, b in zip(*(seconds[kind] for kind in KINDS), strict=True)]
        memory = {kind: child(kind, tokens, name) for kind in KINDS}
        row[name] = {
            "milliseconds": {kind: round(1000 * value, 3) for kind, value in found.items()},
            "dot_product_over_additive": round(statistics.median(ratios), 2),
            "lowest_and_highest": [round(min(ratios), 2), round(max(ratios), 2)],
            "pairs": len(ratios),
            "peak_mebibytes": memory,
        }
    return row


def prepare(kind: str, tokens: int, arguments: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = KINDS[kind](arguments.width, arguments.num_heads)
    return layer, torch.randn(1, tokens, arguments.width, requires_grad=True)


@torch.no_grad()
def forward(layer: nn.Module, x: Tensor) -> None:
    layer(x)


def forward_backward(layer: nn.Module, x: Tensor) -> None:
    layer(x).sum().backward()


PASSES: dict[str, Callable[[nn.Module, Tensor], None]] = {
    "forward": forward,
    "forward_backward": forward_backward,
}


def timed(run: Callable[[nn.Module, Tensor], None], layer: nn.Module, x: Tensor) -> float:
    """Seconds per call; calls of under a millisecond are repeated."""
    repeats = 1 if x.shape[1] > 1024 else 8192 // x.shape[1]
    started = time.perf_counter()
    for _ in range(repeats):
        run(layer, x)
    return (time.perf_counter() - started) / repeats


def child(kind: str, tokens: int, name: str) -> float:
    command = [sys.executable, *sys.argv, "--probe", f"{kind} {tokens} {name}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def probe(layer: nn.Module, x: Tensor, name: str) -> float:
    """Highest resident MiB above that before one call, after a small call has loaded the code."""
    PASSES[name](layer, x[:, :16].detach().requires_grad_())
    Path("/proc/self/clear_refs").write_text("5")  # the mark starts again from what is resident now
    before = resident("VmHWM")
    PASSES[name](layer, x)
    return round(resident("VmHWM") - before, 2)


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
