"""What a run ran on: versions, machine, commit, memory. The `env` of `run.json`, and of its `cost` the memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from lorabench import __version__

PACKAGES = ("numpy", "safetensors", "scipy", "torchvision")
"""Besides torch and lorabench itself, the packages whose versions a run records."""


def describe(device: str, threads: int, torch_version: str, unit: str) -> dict[str, Any]:
    """The record's `env`; `unit` is what computes, a GPU's name or the instructions that torch uses of a CPU."""
    return {
        "lorabench": __version__,
        "python": platform.python_version(),
        "torch": torch_version,
        "platform": platform.platform(),
        "machine": f"{platform.machine()} {unit}",
        "device": device,
        "threads": threads,
        "git": _git(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


@functools.cache
def _git() -> dict[str, Any] | None:
    """Commit of lorabench's own source tree, and whether it differs from it; None outside a git checkout."""
    here = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def watch_memory() -> int | None:
    """Forget how much memory this process ever held; the bytes that it holds now, or None where nothing can be said.

    Only Linux lets its peak be taken back (proc(5), `clear_refs`). The allocator first returns what earlier runs in
    this process left, or a new run would use that and seem to need less.
    """
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_bytes(b"5")
    except OSError:
        return None
    return _resident("VmRSS")


def peak_rss_bytes() -> int | None:
    """The most memory that this process has held at once since `watch_memory`, on Linux."""
    return _resident("VmHWM")


def _resident(name: str) -> int | None:
    """A line of /proc/self/status in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
