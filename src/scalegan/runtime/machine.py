"""What this machine has for training: versions, devices, threads, disk, links between ranks."""

import importlib.metadata as metadata
import os
import platform
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from packaging.requirements import Requirement

from scalegan.runtime.files import free_bytes
from scalegan.runtime.world import World

LEAST_DISK = 1e9  # a small run's checkpoints and snapshots
MESSAGE = 1 << 20  # numbers that travel in the test of a link: 4 MB


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    value: str
    advice: str = ""
    """What to type or do about it."""
    mark: Literal["ok", "--", "NO"] = "ok"
    """NO where a run cannot work like this, -- where something optional is missing."""

    @property
    def is_fine(self) -> bool:
        """Whether a run can work like this."""
        return self.mark != "NO"


def examine(world: World, folder: Path) -> list[Finding]:
    """Examine the machine; all ranks call it together.

    Args:
        folder: where runs would be written.
    """
    return [
        Finding(
            "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
        ),
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
        lines.append(f"{finding.mark}  {finding.name:14} {finding.value}")
        lines += [f"{'':19}-> {finding.advice}"] if finding.advice else []
    bad = [finding.name for finding in findings if not finding.is_fine]
    return [*lines, f"not ready: {', '.join(bad)}" if bad else "ready"]


def _requirements() -> list[str]:
    try:
        return metadata.requires("scalegan") or []
    except metadata.PackageNotFoundError:
        return []


def packages(requirements: list[str]) -> list[Finding]:
    """Whether each package that is required, or optional for users, is installed and fits.

    Args:
        requirements: as the package's metadata has them: `torch>=2.8`, `av>=1; extra == "video"`.
    """
    if not requirements:
        return [Finding("scalegan", "runs from its sources, without being installed")]
    found = []
    for requirement in map(Requirement, requirements):
        extra = re.search(r'extra == "(.+?)"', str(requirement.marker))
        if requirement.name != "scalegan" and not (extra and extra[1] == "dev"):
            found.append(_package(requirement, extra[1] if extra else ""))
    return found


def _package(requirement: Requirement, extra: str) -> Finding:
    name, wanted = requirement.name, requirement.specifier
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = ""
    if version and wanted.contains(version, prereleases=True):
        return Finding(name, version)
    found = f"{version}, needs {wanted}" if version else "not installed"
    if extra:
        return Finding(name, f"{found} (optional: pip install scalegan[{extra}])", mark="--")
    return Finding(name, found, f'pip install --upgrade "{name}{wanted}"', "NO")


def _torch() -> list[Finding]:
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    kinds = ["gloo"] if dist.is_gloo_available() else []
    kinds += ["nccl"] if dist.is_nccl_available() else []
    found = [
        Finding("torch build", f"{build}, with {' and '.join(kinds) or 'no way'} to link processes")
    ]
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        advice = (
            "install a CUDA build of torch that fits the driver: pytorch.org/get-started"
            if not torch.version.cuda
            else "check the driver with `nvidia-smi`"
        )
        found.append(Finding("cuda", "there is an NVIDIA driver, but torch cannot use it", advice))
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
    advice = f"set OMP_NUM_THREADS or train.threads to {cores} at most" if threads > cores else ""
    return Finding("threads", f"{threads} threads of torch on {cores} cores", advice)


def _disk(folder: Path) -> Finding:
    free = free_bytes(folder)
    value = f"{free / 1e9:.1f} GB free in `{folder}`"
    if free < LEAST_DISK:
        return Finding("disk", value, f"free {LEAST_DISK / 1e9:.0f} GB or more", "NO")
    return Finding("disk", value)


def links(world: World) -> list[Finding]:
    """Whether a sum over all ranks is right, and how fast it comes back."""
    if world.size == 1:
        advice = "to test links: torchrun --nproc-per-node 2 -m -- scalegan doctor"
        return [Finding("links", "one process has none", advice)]
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
    if is_fine:
        return [Finding("links", value)]
    advice = "check cables and drivers, and run with NCCL_DEBUG=INFO, before any training"
    return [Finding("links", value, advice, "NO")]
