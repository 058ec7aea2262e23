"""`scalegan doctor`: whether this machine is ready to train."""

from dataclasses import dataclass
from pathlib import Path

from scalegan.commands.flags import parse_flags


@dataclass(frozen=True)
class Doctor:
    """Report what this machine has; under torchrun the links between processes are tested too."""

    folder: Path = Path()
    """The folder where runs would be written, to report its free space."""
    device: str = "auto"
    """The device to examine: cpu, cuda, cuda:1, or auto for a GPU if there is one."""


def doctor_command(arguments: list[str]) -> int:
    flags = parse_flags(Doctor, "doctor", arguments)

    from scalegan.runtime.machine import examine, report
    from scalegan.runtime.world import join, leave

    world = join(flags.device)
    findings = examine(world, flags.folder)
    if world.is_first:
        print("\n".join(report(findings)))
    leave()
    return 0 if all(finding.is_fine for finding in findings) else 2
