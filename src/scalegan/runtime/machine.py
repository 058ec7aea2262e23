"""What this machine has: versions, devices, threads, disk, links between ranks, missing extras."""

import importlib.metadata as metadata
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from scalegan.runtime.world import World

LEAST_PYTHON = (3, 11)
LEAST_DISK = 1e9  # a small run's checkpoints and snapshots
MESSAGE = 1 << 20  # numbers that travel in the test of a link: 4 MB


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    value: str
    advice: str = ""
    """What to type or do about it."""
    is_fine: bool = True
    """False where a run cannot work like this."""


def examine(world: World, folder: Path) -> list[Finding]:
    """Look at everything; all ranks call it together.

    Args:
        folder: where runs would be written.
    """
    return [
        _python(),
        *packages(_requirements()),
        *_torch(),
        *_devices(world.device),
        _threads(),
        _disk(folder),
        *links(world),
    ]


def report(findings: list[Finding]) -> list[str]:
    """The findings in lines, and a last one that sums up."""
    lines = []
    for finding in findings:
        mark = "ok" if finding.is_fine else "NO"
        lines.append(f"{mark}  {finding.name:14} {finding.value}")
        lines += [f"{'':19}-> {finding.advice}"] if finding.advice else []
    bad = [finding.name for finding in findings if not finding.is_fine]
    return [*lines, f"not ready: {', '.join(bad)}" if bad else "ready"]


def _python() -> Finding:
    least = ".".join(map(str, LEAST_PYTHON))
    is_fine = sys.version_info >= LEAST_PYTHON
    advice = "" if is_fine else f"install Python {least} or newer"
    value = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", value, advice, is_fine)


def _requirements() -> list[str]:
    try:
        return metadata.requires("scalegan") or []
    except metadata.PackageNotFoundError:
        return []


def packages(
    requirements: list[str], version_of: Callable[[str], str] = metadata.version
) -> list[Finding]:
    """Required packages one by one, and a line for each extra.

    Args:
        requirements: as the package's metadata has them: `torch>=2.8`, `av>=1; extra == "video"`.
        version_of: the installed version of a name; raises PackageNotFoundError.
    """
    if not requirements:
        advice = "pip install ."
        return [Finding("scalegan", "not installed; running from its sources", advice)]
    found: list[Finding] = []
    lacking: dict[str, list[str]] = {}
    for requirement in requirements:
        name, least, extra = _parse(requirement)
        if name == "scalegan":  # an extra that includes another
            continue
        try:
            version = version_of(name)
        except metadata.PackageNotFoundError:
            version = ""
        is_fine = bool(version) and _numbers(version) >= _numbers(least)
        if extra:
            lacking.setdefault(extra, []).extend([] if is_fine else [name])
        elif is_fine:
            found.append(Finding(name, version))
        else:
            value = f"{version or 'missing'}, needs {least or 'any version'}"
            advice = f'pip install --upgrade "{name}>={least}"' if least else f"pip install {name}"
            found.append(Finding(name, value, advice, is_fine=False))
    for extra, names in sorted(lacking.items()):
        value = f"without {', '.join(names)}" if names else "complete"
        advice = f'pip install "scalegan[{extra}]"' if names else ""
        found.append(Finding(f"extra {extra}", value, advice))
    return found


def _parse(requirement: str) -> tuple[str, str, str]:
    """Name, least version and extra of one requirement."""
    name = re.match(r"[\w.-]+", requirement)
    least = re.search(r">=\s*([\w.]+)", requirement)
    extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
    return (
        name[0] if name else requirement,
        least[1] if least else "",
        extra[1] if extra else "",
    )


def _numbers(version: str) -> list[int]:
    """The leading numbers of a version: 2.13.0+cu130 is [2, 13, 0]."""
    return [int(part) for part in re.findall(r"\d+", re.split(r"[+a-z]", version)[0])]


def _torch() -> list[Finding]:
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    kinds = ["gloo"] if dist.is_gloo_available() else []
    kinds += ["nccl"] if dist.is_nccl_available() else []
    found = [Finding("torch build", f"{build}; links by {', '.join(kinds) or 'nothing'}")]
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        advice = (
            "install a CUDA build of torch that fits the driver: pytorch.org/get-started"
            if not torch.version.cuda
            else "see what `nvidia-smi` says of the driver"
        )
        found.append(Finding("cuda", "a GPU's driver is here, but torch cannot use it", advice))
    return found


def _devices(chosen: torch.device) -> list[Finding]:
    found = [Finding("device", str(chosen))]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        value = (
            f"{about.name}, {total / 1e9:.0f} GB ({free / 1e9:.0f} free), "
            f"bfloat16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}"
        )
        found.append(Finding(f"cuda:{index}", value))
    return found


def _threads() -> Finding:
    try:
        cores = len(os.sched_getaffinity(0))  # of this process; a machine may have more
    except AttributeError:
        cores = os.cpu_count() or 1
    threads = torch.get_num_threads()
    advice = "set OMP_NUM_THREADS or train.threads to at most that" if threads > cores else ""
    return Finding("threads", f"{threads} of torch on {cores} cores", advice)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    is_fine = free >= LEAST_DISK
    value = f"{free / 1e9:.1f} GB free in `{folder}`"
    return Finding("disk", value, "" if is_fine else "free some space", is_fine)


def links(world: World) -> list[Finding]:
    """Whether a sum over all ranks is right, and how fast it comes back."""
    if world.size == 1:
        advice = "torchrun --nproc-per-node 2 -m -- scalegan doctor"
        return [Finding("links", "one process, nothing to test", advice)]
    tensor = torch.full((MESSAGE,), float(world.rank + 1), device=world.device)
    world.wait()
    start = time.perf_counter()
    dist.all_reduce(tensor)
    right = world.size * (world.size + 1) / 2
    is_right = bool((tensor == right).all())  # waits for the device
    seconds = time.perf_counter() - start
    is_fine = not world.any(not is_right)
    value = (
        f"{world.size} ranks by {dist.get_backend()}: "
        f"{'right' if is_fine else 'WRONG'} sums of 4 MB in {1000 * seconds:.1f} ms"
    )
    advice = "" if is_fine else "look at cables, drivers and NCCL_DEBUG=INFO before any training"
    return [Finding("links", value, advice, is_fine)]
