"""What this process holds in memory, the most that it held, and what the system would still give it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def watch() -> int | None:
    """Forget how much memory this process ever held; the bytes that it holds now, or None where nothing can be said.

    Only Linux lets its peak be taken back (proc(5), `clear_refs`). The allocator first returns what was freed in this
    process before, or what comes would use that and seem to need less.
    """
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_bytes(b"5")
    except OSError:
        return None
    return _kilobytes("/proc/self/status", "VmRSS")


def peak() -> int | None:
    """The most bytes that this process has held at once since `watch`, on Linux."""
    return _kilobytes("/proc/self/status", "VmHWM")


def free() -> int | None:
    """Bytes that can be had without swapping, as far as the system and a container's control group allow; on Linux."""
    available = _kilobytes("/proc/meminfo", "MemAvailable")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such group, or `max`
            left = int((_CGROUPS / limit).read_text()) - int((_CGROUPS / used).read_text())
            available = min(left, available or left)
    return available


def _kilobytes(path: str, name: str) -> int | None:
    """A line of a file of /proc in bytes."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
