"""All runs below one folder: make, load, find, lock."""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import gc
import os
import platform
import shutil
import stat
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from lorabench import files, npz
from lorabench.errors import InputError, LockedError, UsageError, shown
from lorabench.runs.folder import Folder, settle, sha256_file
from lorabench.runs.notes import Broken, Notes, writable
from lorabench.runs.record import (
    ID,
    MAX_FILE_BYTES,
    MAX_HISTORY_BYTES,
    MAX_RECORD_BYTES,
    Epoch,
    Run,
    now,
    steers,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Value = TypeVar("Value")

GLANCE = 0.3
"""`ls` takes a run's lock for a moment to see if it is free; wait so many seconds before calling a lock held."""


class AmbiguousError(UsageError):
    """A name fits several runs, the `fitting` ones, oldest first."""

    def __init__(self, name: str, fitting: Sequence[Run]) -> None:
        names = ", ".join(run.id for run in fitting[:5]) + (", ..." if len(fitting) > 5 else "")
        super().__init__(f"{name} fits {len(fitting)} runs: {names}; name one, or write {name}* for all")
        self.name, self.fitting = name, fitting


def shortest(run_id: str, ids: Collection[str]) -> str:
    """The shortest name that fits `run_id` alone among all `ids`, its seed and what stands before that included."""
    head = run_id.rpartition("-")[0]
    names = [head, *(run_id[:end] for end in range(len(head) + 2, len(run_id)))]
    return next((name for name in names if _fits(name, ids) == [run_id]), run_id)


def _fits(name: str, ids: Iterable[str]) -> list[str]:
    """The ids that `name` begins; where it ends at the end of a word of some, these alone: s1 is not s10."""
    begun = [run_id for run_id in ids if run_id.startswith(name)]
    return [run_id for run_id in begun if run_id.startswith(f"{name}-")] or begun


class Store(Notes):
    """All runs below one folder, which is made when the first run is, and the notes beside them."""

    def path(self, run_id: str) -> Path:
        """The folder of the run `run_id`.

        Raises:
            UsageError: `run_id` has not the form of an id, so it cannot lead out of the runs folder.
        """
        if not ID.fullmatch(run_id):
            raise UsageError(f"{run_id!r} is no run id; ids look like lora-k4-s0-7f3c2a91b0d4")
        return self.root / run_id

    def load(self, run_id: str) -> Run:
        """Read one record.

        Raises:
            InputError: there is none, or it is damaged.
        """
        record = self.path(run_id) / "run.json"
        try:
            status = record.lstat()
            if stat.S_ISLNK(status.st_mode) or record.parent.is_symlink():
                raise InputError(f"{record}: lorabench reads no run through a symbolic link")
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{record}: there is no such run record")
            if status.st_size > MAX_RECORD_BYTES:
                raise InputError(f"{record}: larger than {MAX_RECORD_BYTES:,} bytes, so it is no run record")
            content = record.read_bytes()
            if steers(content):
                raise InputError(f"{record}: no valid run record: it holds characters that steer a terminal")
            run = Run.model_validate_json(content)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"{record}: there is no such run record") from error
        except OSError as error:
            raise InputError(f"{record}: cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = shown(".".join(str(part) for part in first["loc"])[:100])
            raise InputError(f"{record}: no valid run record: {where + ': ' if where else ''}{first['msg']}") from error
        if run.id != run_id:
            raise InputError(f"{record}: describes the run {run.id[:100]!r}, not {run_id}")
        if not all(ID.fullmatch(parent) for parent in (run.parents.base, run.parents.data) if parent):
            raise InputError(f"{record}: no valid run record: a parent has no run's id")
        if run.status == "running" and not self._alive(run_id):
            return run.model_copy(update={"status": "interrupted"})
        return run

    def holds(self, run_id: str) -> bool:
        """Whether there is a folder with a record of that name, of whatever worth."""
        return os.path.lexists(self.path(run_id) / "run.json")

    def finished(self, run_id: str) -> Run | None:
        """The finished run `run_id` with all its files in place, or None."""
        path = self.path(run_id)
        if not self.holds(run_id):
            return None
        try:
            run = self.load(run_id)
        except InputError:
            return None
        complete = all(os.path.isfile(path / name) for name in run.files)  # noqa: PTH113 - no error in a closed folder
        return run if run.status == "done" and complete else None

    def scan(self) -> tuple[list[Run], list[Broken]]:
        """All runs, oldest first, and the folders that look like runs and cannot be read."""
        runs: list[Run] = []
        broken: list[Broken] = []
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise InputError(f"{self.root}: is no folder, so there are no runs in it")
        names = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        with uncollected():
            for name in sorted(filter(ID.fullmatch, names)):
                try:
                    runs.append(self.load(name))
                except InputError as error:
                    broken.append(Broken(name, str(error)))
        return sorted(runs, key=lambda run: (run.started, run.id)), broken

    def select(self, patterns: Sequence[str]) -> tuple[list[Run], list[Broken]]:
        """All runs that match ids, unique prefixes, globs or `@last` (the newest), each once.

        And the unreadable folders that a glob matches.

        Raises:
            InputError: nothing fits one (the nearest ids are named), or the one that fits is damaged.
            UsageError: a prefix fits several runs.
        """
        selected: dict[str, Run] = {}
        damaged: dict[str, Broken] = {}
        scanned: tuple[list[Run], list[Broken]] | None = None
        for pattern in patterns:
            if ID.fullmatch(pattern):
                with contextlib.suppress(InputError):
                    selected[pattern] = self.load(pattern)
                    continue
            runs, broken = scanned = scanned or self.scan()
            if any(c in pattern for c in "*?["):
                damaged |= {folder.id: folder for folder in broken if fnmatch.fnmatchcase(folder.id, pattern)}
            selected |= {run.id: run for run in self._fitting(pattern, runs, broken)}
        return list(selected.values()), list(damaged.values())

    def _fitting(self, pattern: str, runs: Sequence[Run], broken: Sequence[Broken]) -> list[Run]:
        if pattern == "@last":
            if not runs:
                raise InputError(f"there are no runs in {self.root}; `lorabench study` makes some")
            return [runs[-1]]
        if any(c in pattern for c in "*?["):
            fitting = [run for run in runs if fnmatch.fnmatchcase(run.id, pattern)]
            if not fitting:
                unreadable = sum(fnmatch.fnmatchcase(folder.id, pattern) for folder in broken)
                more = f" that can be read; {unreadable} cannot: lorabench ls" if unreadable else ""
                raise InputError(f"no run in {self.root} fits {pattern}{more}")
            return fitting
        named = set(_fits(pattern, [run.id for run in runs]))
        fitting = [run for run in runs if run.id in named]
        if len(fitting) > 1:
            raise AmbiguousError(pattern, fitting)
        if not fitting:
            damaged = [folder for folder in broken if folder.id.startswith(pattern)]
            if damaged:
                raise InputError(damaged[0].reason)
            near = difflib.get_close_matches(pattern, [run.id for run in runs], n=3, cutoff=0.3)
            hint = f"; the nearest are {', '.join(near)}" if near else "; `lorabench ls` lists what there is"
            raise InputError(f"no run {pattern} in {self.root}{hint}")
        return fitting

    def parents(self, runs: Iterable[Run]) -> dict[str, Run]:
        """The bases and F-MNISTs that `runs` were made from, by id, as far as they are there."""
        known = {run.id: run for run in runs}
        wanted = {parent for run in known.values() for parent in (run.parents.base, run.parents.data) if parent}
        for parent in wanted - known.keys():
            with contextlib.suppress(InputError, UsageError):
                known[parent] = self.load(parent)
        return {parent: known[parent] for parent in wanted if parent in known}

    def predictions(self, run: Run) -> dict[str, npt.NDArray[np.uint8]]:
        """The arrays of the run's `predictions.npz`, each of a digit for every test image; empty if it has none.

        Raises:
            InputError: the file is not the one that the run wrote, or holds anything else.
        """
        import numpy as np

        name = "predictions.npz"
        if name not in run.files:
            return {}
        path = self.intact(run, name)
        arrays = npz.read(path, np.uint8)
        lengths = {len(digits) for digits in arrays.values()}
        if len(lengths) != 1 or 0 in lengths or any((digits > 9).any() for digits in arrays.values()):
            raise InputError(f"{path}: must hold a digit for every test image; run it again with --force")
        return arrays

    def history(self, run: Run) -> list[Epoch]:
        """The run's epochs in their order; empty if it wrote none.

        Raises:
            InputError: the file is not the one that the run wrote, or holds anything else.
        """
        name = "history.jsonl"
        if name not in run.files:
            return []
        path = self.intact(run, name)
        if (size := path.stat().st_size) > MAX_HISTORY_BYTES:
            raise InputError(f"{path}: no history of a run: it has {size:,} bytes, more than {MAX_HISTORY_BYTES:,}")
        try:
            return [Epoch.model_validate_json(line) for line in path.read_bytes().splitlines()]
        except ValidationError as error:
            raise InputError(f"{path}: no history of a run; run it again with --force") from error

    def steady(self, run_id: str, read: Callable[[Run], Value]) -> Value:
        """What `read` makes of a finished run: under its lock if that fails, for it may be replaced at this moment.

        Raises:
            InputError: as `load`, or by `read`.
        """
        try:
            return read(self.load(run_id))
        except InputError:
            with self.locked(run_id):
                return read(self.load(run_id))

    def intact(self, run: Run, name: str) -> Path:
        """The path of a file of the run, after a look at its checksum.

        Raises:
            InputError: it is missing, or not the one that the run wrote.
        """
        path = self.path(run.id) / name
        try:
            if path.is_symlink():
                raise InputError(f"{path}: lorabench reads no run through a symbolic link")
            if not path.is_file():
                raise InputError(f"{path}: there is no such file; make the run again with --force")
            if path.stat().st_size > MAX_FILE_BYTES:
                raise InputError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes, so no file of a run; remove it")
            checksum = sha256_file(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        if run.files.get(name) != checksum:
            raise InputError(f"{path}: not the file that the run wrote, its SHA-256 differs; run it again with --force")
        return path

    @contextlib.contextmanager
    def locked(
        self, run_id: str, *, wait: bool = True, on_wait: Callable[[str], None] | None = None
    ) -> Generator[None]:
        """Hold the run `run_id` for this process. The system frees the lock of a process that dies.

        Raises:
            LockedError: another live process holds it and `wait` is false.
            RunFailedError: the runs folder cannot be written.
        """
        from filelock import Timeout

        name = self.path(run_id).name
        with writable(self.root):
            lock = self.lock(name)
            try:
                lock.acquire(timeout=GLANCE)
            except Timeout as error:
                maker = None
                with contextlib.suppress(InputError):
                    maker = self.load(run_id).maker
                message = f"{run_id} is being made by {maker or 'another lorabench process'}"
                if not wait:
                    raise LockedError(message) from error
                if on_wait:
                    on_wait(f"{message}; waiting for it")
                lock.acquire()
        try:
            with writable(self.root):
                settle(self.path(run_id))
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def start(self, record: Run, config: str) -> Generator[Folder]:
        """A fresh folder for `record`, emptied of an earlier try; the caller holds the lock.

        A finished run of that id is replaced once the new one is finished, and stays if that fails.

        Leaving the block without `finish`, by an exception or not, records the run as failed or interrupted.

        Raises:
            RunFailedError: the disk refuses (full, read-only), here or inside the block.
        """
        path = self.path(record.id)
        maker = f"process {os.getpid()} on {platform.node()}"
        folder = Folder(path, record.model_copy(update={"started": now(), "status": "running", "maker": maker}))
        with writable(path):
            if path.is_symlink():
                raise InputError(f"{path}: is a symbolic link; lorabench writes no run through one")
            folder.begin(keep=self.finished(record.id) is not None)
            try:
                folder.write("config.yaml", config.encode())
                yield folder
            except KeyboardInterrupt as error:
                folder.stop("interrupted", error)
                raise
            except BaseException as error:
                folder.stop("failed", error)
                raise

    def remove(self, run_id: str) -> None:
        """Remove the folder of a run that no live process makes. Killed meanwhile, it is there whole or is no run.

        Raises:
            InputError: it is a symbolic link.
            LockedError: another live process makes it.
            RunFailedError: the disk refuses.
        """
        path, gone = self.path(run_id), self.root / f".{run_id}.removed"
        if path.is_symlink():
            raise InputError(f"{path}: is a symbolic link; lorabench removes no run through one")
        with self.locked(run_id, wait=False), writable(path):
            shutil.rmtree(gone, ignore_errors=True)
            files.move(path, gone)
            shutil.rmtree(gone)

    def give_up(self, run_id: str, error: BaseException) -> None:
        """Record why a run has failed whose process is gone and could not say so itself."""
        with contextlib.suppress(InputError, LockedError), self.locked(run_id, wait=False):
            run = self.load(run_id)
            if run.status != "done":
                Folder(self.path(run_id), run).stop("failed", error)

    def _alive(self, run_id: str) -> bool:
        """Whether a live process works on the run."""
        from filelock import Timeout

        if not (self.root / ".locks" / f"{run_id}.lock").exists():
            return False
        try:
            lock = self.lock(run_id)
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except (InputError, OSError):  # a folder of somebody else's: what the record says must do
            return True
        lock.release()
        return False


@contextlib.contextmanager
def uncollected() -> Generator[None]:
    """Keep the garbage collector, if it is on, from what is made inside, for as long as this lasts.

    Records hold no cycles, and to look for some among thousands of them takes longer than to read them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
