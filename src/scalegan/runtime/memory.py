"""Memory that a step frees is reused by the next one, instead of going back to the system."""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
NEVER = 2**30


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, where its C library is glibc; elsewhere do nothing.

    By default glibc maps every block of over 32 MiB anew, and the system clears it page by page
    while it is first written to: a tenth of a training step on a CPU (benchmarks/train_step.py).
    Of process-wide effect, so the command line asks for it and the library does not.

    Returns:
        Whether the allocator has agreed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    return bool(mallopt and mallopt(MMAP_THRESHOLD, NEVER) and mallopt(TRIM_THRESHOLD, NEVER))
