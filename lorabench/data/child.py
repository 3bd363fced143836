"""A download in a child process, watched: when no byte comes any more, it is ended.

A library that waits for a dead server may wait for ever, and shows no progress that another program could
read. So it downloads in a process of its own, into a folder, and what is watched is how that folder grows.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

QUIET_S = 10.0
"""A download that brings no byte for so many seconds is given up."""

_POLL_S = 0.1
_ONLINE = ".online"
_ROOT = Path(__file__).parents[2]
# With -P and an appended path, nothing that happens to lie in the user's folder is imported as a library.
_START = """
import importlib, sys
_, root, module, folder = sys.argv
sys.path.append(root)
importlib.import_module(module).main(folder)
"""


@contextlib.contextmanager
def online(folder: Path) -> Generator[None]:
    """For the child: the part that waits for the network. Elsewhere, as in slow imports, silence is fine."""
    marker = folder / _ONLINE
    marker.touch()
    yield
    marker.unlink()


def run(module: str, folder: Path, suffix: str, on_bytes: Callable[[int], None]) -> str | None:
    """Run `main(folder)` of `module` in a child process that shows nothing.

    Args:
        module: full name of a module of lorabench.
        folder: what the child fills; its temporary files go there too.
        suffix: the files to count have names with this ending.
        on_bytes: told how many bytes these files hold, whenever that is more than before.

    Returns:
        None if the child succeeded, else the reason in a line: the last of its stderr, or that it was silent.
    """
    command = [sys.executable, "-P", "-c", _START, str(_ROOT), module, str(folder)]
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
            silent = _watch(process, folder, suffix, on_bytes)
        finally:
            _end(process)
        if silent:
            return f"no byte came for {QUIET_S:g} s"
        return _last_line(log) if process.returncode else None


def _watch(process: subprocess.Popen[bytes], folder: Path, suffix: str, on_bytes: Callable[[int], None]) -> bool:
    """Wait for the child's end, or give up; returns whether it was silent for too long."""
    most, seen, since = 0, 0, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return False
        found = _count_bytes(folder, suffix)
        if found > most:
            most = found
            on_bytes(found)
        if found != seen or not (folder / _ONLINE).exists():
            seen, since = found, time.monotonic()
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


def _count_bytes(folder: Path, suffix: str) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # The child may remove any of them at any moment.
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).stat().st_size if name.endswith(suffix) else 0
    return total


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    return next((line.removeprefix("ERROR: ") for line in reversed(lines) if line), "it ended without a word")
