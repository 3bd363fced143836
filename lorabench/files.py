"""Files and folders that a user asked for: afterwards there is all of them, or what was there before.

    files.write(Path("report.html"), data)        # a link is written through, a device or a pipe is written into
    with files.beside(Path("export")) as part:    # a folder that takes its place once it is whole
        ...

Runs have their own folders and rules, see `runs`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import sys
import time
from collections.abc import Generator
from pathlib import Path

from lorabench.errors import LorabenchError, refusal

PATIENCE_S = 2.0


def failure(path: Path, error: OSError) -> LorabenchError:
    """What is told of a file that cannot be written: the disk is full, a run's failure, or it was the wrong place."""
    return refusal(error)(f"{error.filename or path}: cannot be written: {error.strerror or error}")


def write(path: Path, data: bytes) -> None:
    """Let `path`, or what it is a link to, hold `data`.

    A regular file is replaced at once or not at all; what is none, such as /dev/null or a named pipe, stays what it is.

    Raises:
        InputError: there is no such folder, or it cannot be written.
        RunFailedError: the disk is full.
    """
    try:
        if path.parts[:2] == ("/", "dev") or (path.exists() and not path.is_file()):
            with path.open("wb") as file:
                file.write(data)
            return
        place = path.resolve()
        replace(place, data, part(place))
    except OSError as error:
        raise failure(path, error) from error


def replace(place: Path, data: bytes, aside: Path) -> None:
    """Write `data` into the new file `aside`, on the disk, and let that take the `place`; or leave neither.

    Raises:
        OSError: as the system refuses it.
    """
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        move(aside, place)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def move(old: Path, new: Path) -> None:
    """Let `old` take the place `new`. On Windows whoever has a file open, for a moment perhaps, has that refused.

    Raises:
        OSError: as the system refuses it, PermissionError after `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            old.replace(new)
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def beside(place: Path) -> Generator[Path]:
    """A new folder beside `place`, which takes its place at the end, with what it held before gone; or is gone itself.

    Raises:
        InputError, RunFailedError: as `write`, of whatever is written inside too.
    """
    temporary = part(place)
    old = temporary.with_suffix(".old")
    try:
        made = not place.parent.exists()
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if place.exists():
                move(place, old)
            move(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists() and not place.exists():
                move(old, place)
            shutil.rmtree(old, ignore_errors=True)
            if made and not place.exists():
                with contextlib.suppress(OSError):
                    place.parent.rmdir()
    except OSError as error:
        raise failure(place, error) from error


def part(place: Path) -> Path:
    """Where this process writes before it takes the `place`; what dead ones left there is removed."""
    head = f".{place.name}."
    for left in place.parent.glob(f"{glob.escape(head)}*.part") if place.parent.is_dir() else ():
        number = left.name[len(head) : -len(".part")]
        if number.isdecimal() and not _alive(int(number)):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)
    return place.with_name(f"{head}{os.getpid()}.part")


def _alive(process: int) -> bool:
    """Whether there is such a process, as far as the system tells without touching it."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
