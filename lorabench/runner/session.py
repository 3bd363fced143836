"""Where the stages of one process are made: the runs folder, the data, the device that computes, and its `env`.

with open_session(store, data_dir, config, emit) as session:
    run, cached = make.perform(stage, session)
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
from collections.abc import Generator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lorabench import __version__, data, events, threads
from lorabench.config import Config
from lorabench.data import Mnist, Shifted
from lorabench.errors import InputError
from lorabench.events import Emit
from lorabench.runs import Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

PACKAGES = ("numpy", "safetensors", "scipy", "torchvision")
"""Besides torch and lorabench itself, the packages whose versions a run records."""


@dataclass(frozen=True)
class Session:
    """What the stages of one process share: where runs and data are, the device, and the most threads of a training.

    `measured` is what the base of the last fine-tune gave on its images: the fine-tunes of one base follow each other.
    """

    store: Store
    data_dir: Path | None
    device: torch.device
    threads: int
    emit: Emit
    measured: dict[tuple[str, str | None], Any] = field(default_factory=dict[tuple[str, str | None], Any])

    def environment(self) -> dict[str, Any]:
        """The `env` of `run.json`: on other versions, or another machine, the bits may be others."""
        device = self.device
        if device.type == "cuda":
            unit = torch.cuda.get_device_name(device)
        else:
            unit = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else device.type
        return {
            "lorabench": __version__,
            "python": platform.python_version(),
            # A plain string: torch's own type would have the driver of workers import torch to unpickle it.
            "torch": str(torch.__version__),
            "platform": platform.platform(),
            "machine": f"{platform.machine()} {unit}",
            "device": device.type,
            "threads": self.threads,
            "git": _git(),
            "packages": {name: metadata.version(name) for name in PACKAGES},
        }

    def mnist(self, settings: Config) -> Mnist:
        """MNIST, fetched if need be; with `settings.holdout` images of its training set as its test set."""
        return _mnist(self.data_dir, settings.holdout, self.emit)

    def fmnist_of(self, settings: Config) -> tuple[Mnist, Shifted]:
        """MNIST, and which of its images the F-MNIST of `settings` changes."""
        mnist = self.mnist(settings)
        return mnist, data.choose(mnist, settings.fmnist)

    def tensor(self, array: npt.NDArray[np.uint8]) -> Tensor:
        """Images or labels on the device."""
        return torch.from_numpy(array).to(self.device)


@contextlib.contextmanager
def open_session(
    store: Store, data_dir: Path | None, settings: Config, emit: Emit, *, worker_index: int = 0
) -> Generator[Session]:
    """Set this process up for `settings.device` and `settings.threads`; `worker_index` counts its fellow workers.

    Afterwards torch computes in this process as it did before.

    Raises:
        InputError: the device is not there.
    """
    device = spread(_device(settings.device, emit), worker_index, torch.cuda.device_count())
    count, flushed = settings.threads or torch.get_num_threads(), (torch.tensor([1e-40]) * 1).item() == 0
    # Confident predictions have gradients of 1e-40, on which a processor computes a hundred times more slowly.
    torch.set_flush_denormal(True)
    try:
        with threads.using(1):  # which measuring and the singular values would depend on; training asks for more
            yield Session(store, data_dir, device, count, emit)
    finally:
        torch.set_flush_denormal(flushed)


def _device(wanted: str, emit: Emit) -> torch.device:
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        name = next(name for name, available in have.items() if available)
        if name == "cpu":
            emit(events.Message("device auto: no GPU here, running on the CPU"))
        return torch.device(name)
    if not have[wanted]:
        raise InputError(f"device {wanted}: torch {torch.__version__} finds none on this machine; cpu is everywhere")
    return torch.device(wanted)


def spread(device: torch.device, worker_index: int, gpus: int) -> torch.device:
    """The device of a worker: worker i uses GPU i mod n; other devices are shared."""
    return torch.device("cuda", worker_index % gpus) if device.type == "cuda" and gpus else device


@functools.lru_cache(maxsize=1)
def _mnist(data_dir: Path | None, holdout: int, emit: Emit) -> Mnist:
    return data.load(
        data_dir,
        holdout,
        progress=lambda way, done, total: emit(events.Download(way, done, total)),
        message=lambda text: emit(events.Message(text)),
    )


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
