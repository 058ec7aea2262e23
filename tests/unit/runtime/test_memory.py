"""Freed memory stays with a process that asks for it."""

import platform
import subprocess
import sys

import pytest

from scalegan.runtime import memory

PROGRAM = """
import resource, sys
from scalegan.runtime.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def fill():
    buffer = bytearray(64 << 20)
    buffer[:: 4096] = bytes(len(buffer[:: 4096]))
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's allocator")
def test_large_blocks_are_not_mapped_anew() -> None:
    assert faults("kept") < faults("given back") / 10


def test_nothing_happens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert not memory.keep_freed_memory()
