"""Memory: how much a process could have, and that it keeps what a step frees, since the next asks for it."""

import ctypes
import os
import sys
from contextlib import suppress

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 << 20  # bytes; above it glibc asks the system each time, and accepts no higher threshold
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch looks when it allocates for the first time


def room() -> int:
    """Bytes that this process could have: the memory of the machine, or what the limit of its control group (a
    container) or its own (ulimit -v) leaves if less.
    """
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 63
    if sys.platform != "linux":
        return whole
    for file in _GROUP_LIMITS:
        with suppress(OSError, ValueError), open(file, encoding="ascii") as stream:  # a ValueError: it says 'max'
            whole = min(whole, int(stream.read()))
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    return whole if limit == resource.RLIM_INFINITY else min(whole, max(0, limit - used))


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory, and torch ask for huge pages, in this process and those it starts.

    By default glibc gives large pieces back to the system, so that a training step finds every tensor new: a page
    fault per 4 KB, which took a third of the time of a CNN (python benchmarks/page_faults.py). No value changes by it.
    The commands `neurosbd fit` and `neurosbd simulate` call it; in Python, call it before the first tensor is made.

    Whatever the environment says already stays: MALLOC_*, GLIBC_TUNABLES, LD_PRELOAD, THP_MEM_ALLOC_ENABLE.

    Returns:
        Whether the C library could be told: it is glibc, and nobody else has set it up.
    Source: mallopt(3); torch, c10/core/impl/alloc_cpu.cpp.
    """
    if sys.platform != "linux":
        return False
    os.environ.setdefault(_HUGE_PAGES, "1")
    if any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    wanted = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2 * _LARGEST}
    return all([mallopt(parameter, value) for parameter, value in wanted.items()])
