"""A run's folder while the run is in progress. Every write is whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import Literal

from lorabench import files
from lorabench.errors import shown
from lorabench.runs.record import Failure, Run, now


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either what it held before or all of `data`, whatever happens.

    For one writer at a time. What a killed one left behind is replaced, and a link in its place is not followed.
    """
    part = beside(path)
    part.unlink(missing_ok=True)
    files.replace(path, data, part)


def beside(path: Path) -> Path:
    """Where a file or folder is written before it takes its place at `path`."""
    return path.with_name(f".{path.name}.part")


def settle(path: Path) -> None:
    """Undo what a process that was killed between two renames left of the run's folder; the caller holds its lock."""
    part = beside(path)
    if (earlier := part / "earlier").exists() and not path.exists():
        files.move(earlier, path)
    for left in (part, path / "earlier"):
        if left.exists() and not path.is_symlink():
            shutil.rmtree(left)


class Folder:
    """A run's folder while the run is in progress; only `Store.start` makes one."""

    def __init__(self, path: Path, record: Run) -> None:
        self.path = path
        self.run = record
        self._files: dict[str, str] = {}
        self._place = path

    def begin(self, *, keep: bool = False) -> None:
        """Replace the folder of an earlier try by a new one that holds only the first record.

        With `keep` the earlier one is a finished run, and stays where it is until the new one is finished.
        """
        part = beside(self.path)
        settle(self.path)
        try:
            part.mkdir(parents=True)
            self._record(part)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        if keep:
            self._place = part
        else:
            self._take_place(part)

    def _take_place(self, part: Path) -> None:
        """Let the folder `part` be the run's, and what was there be gone."""
        try:
            if self.path.is_dir():
                files.move(self.path, part / "earlier")
            files.move(part, self.path)
        except BaseException:
            if (part / "earlier").exists() and not self.path.exists():
                files.move(part / "earlier", self.path)
            shutil.rmtree(part, ignore_errors=True)
            raise
        self._place = self.path
        settle(self.path)

    def write(self, name: str, data: bytes) -> None:
        """Add a file to the run; its checksum goes into `run.json`."""
        write_atomic(self._place / name, data)
        self._files[name] = hashlib.sha256(data).hexdigest()

    def finish(self, run: Run) -> None:
        """Write the final record, the last write of all; a finished run that was kept until now is replaced."""
        self.run = run.model_copy(update={"status": "done", "ended": now(), "files": self._files, "maker": None})
        self._record(self._place)
        if self._place != self.path:
            self._take_place(self._place)

    def stop(self, status: Literal["failed", "interrupted"], error: BaseException) -> None:
        """Record why the run ended early, as far as the disk still takes it. A finished run that was kept stays."""
        if self._place != self.path:
            shutil.rmtree(self._place, ignore_errors=True)
            return
        message = shown(str(error)[:2000], "\t\n")
        failure = Failure(type=type(error).__name__, message=message or type(error).__name__)
        self.run = self.run.model_copy(
            update={"status": status, "ended": now(), "error": failure, "files": self._files, "maker": None}
        )
        with contextlib.suppress(OSError):
            self._record(self.path)

    def _record(self, place: Path) -> None:
        text = self.run.model_dump_json(by_alias=True, indent=1) + "\n"
        write_atomic(place / "run.json", text.encode())
