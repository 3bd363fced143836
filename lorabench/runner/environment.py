"""What a run ran on: versions, machine, commit. The `env` of `run.json`."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
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
    """Commit of lorabench's own source tree, and whether it differs from it; None outside its own git checkout.

    Installed inside somebody else's checkout, or called by a hook of theirs, it is not theirs that is named.
    """
    package = Path(__file__).parent.parent
    here = package.parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)
        return done.stdout.strip()

    try:
        if not here.samefile(git("rev-parse", "--show-toplevel")):
            return None
        git("ls-files", "--error-unmatch", f"{package.name}/__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", package.name))}
    except (OSError, subprocess.SubprocessError):
        return None
