"""Run folders on disk: create, finish, fail, load, find. Opens no tensor and imports no torch.

    store = Store(Path("runs"))
    with store.start(draft, config_text) as folder:      # run.json says "running"
        folder.write("model.safetensors", data)
        folder.finish(draft.model_copy(update={...}))    # run.json says "done": the last write

A run's id ends in a hash of everything that the run depends on, so the same inputs find the same folder. Every file
is written beside its place, flushed, and moved there, and so is a new folder with its first record: a kill at any
moment leaves a folder whose `run.json` says that it is unfinished, or none. What lay beside is cleared by the next try.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import gc
import hashlib
import json
import os
import platform
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from lorabench import npz
from lorabench.errors import InputError, LockedError, RunFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from filelock import FileLock

SCHEMA = 1
ID = re.compile(r"[a-z][a-z0-9-]{0,80}-s\d{1,10}-[0-9a-f]{8}")
MAX_RECORD_BYTES = 1_000_000
MAX_FILE_BYTES = 1_000_000_000
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\u00(?:[01][0-9a-f]|7f|[89][0-9a-f])|\xc2[\x80-\x9f]", re.IGNORECASE)
"""JSON for characters that steer a terminal, line ends and tabs excepted."""

Whole = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Row = Annotated[list[Annotated[int, Field(ge=-(2**53), le=2**53)]], Field(min_length=10, max_length=10)]
Ten = Annotated[list[Whole], Field(min_length=10, max_length=10)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _time(value: str) -> str:
    if value:
        datetime.fromisoformat(value)
    return value


Time = Annotated[str, AfterValidator(_time)]
"""ISO 8601, or nothing."""


class Record(BaseModel):
    """A frozen part of `run.json`. Unknown fields of a later minor version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Parents(Record):
    """Ids of the runs that this one was made from."""

    base: str | None = None
    data: str | None = None


class Params(Record):
    """Numbers of parameters."""

    total: Whole
    trainable: Whole
    frozen: Whole


class Slice(Record):
    """Accuracy on some of the test images; `accuracy` is a fraction, None if there are no images."""

    n: Whole
    correct: Whole
    accuracy: Share | None


class Metrics(Record):
    """One model on one test set. `confusion[t][p]` counts images of `t` taken for `p`; `loss` is in nats."""

    n: Annotated[Whole, Field(ge=1)]
    correct: Whole
    accuracy: Share
    loss: Amount
    confusion: Annotated[list[Row], Field(min_length=10, max_length=10)]
    slices: dict[str, Slice] = Field(default_factory=dict[str, Slice])

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.correct > self.n:
            raise ValueError("more images are right than there are")
        if any(part.correct > part.n or (part.accuracy is None) != (part.n == 0) for part in self.slices.values()):
            raise ValueError("a slice has more images right than there are, or no accuracy")
        return self


class Cost(Record):
    """What a run took: `train_s` in the training loop, `wall_s` for everything; `peak_rss_bytes` of its process."""

    train_s: Amount
    wall_s: Amount
    steps: Whole
    step_ms: Amount
    images_per_s: Amount
    peak_rss_bytes: Whole | None


class Epoch(Record):
    """A line of `history.jsonl`: mean training loss (nats), training accuracy (a fraction), last learning rate."""

    epoch: Whole
    loss: Amount
    accuracy: Share
    lr: Amount
    seconds: Amount


class Failure(Record):
    """Why a run did not finish."""

    type: str
    message: str


class Census(Record):
    """What F-MNIST's run says of a split: images and mirrored images of each digit, and a hash of the images."""

    images: Ten
    flipped: Ten
    sha256: Sha256


class Change(Record):
    """What a fine-tune's run says of a layer, as `spectrum.Spectrum`."""

    frobenius: Amount
    stable_rank: Amount
    rank90: Whole


class Checks(Record):
    """The facts in `Run.checks` that lorabench reads again."""

    max_logit_change_at_birth: Amount = 0
    frozen_unchanged: bool = True
    delta_w: dict[str, Change] = Field(default_factory=dict[str, Change])


class Rate(Record):
    """The setting of a trained run that tables show by itself."""

    lr: Amount | None = None


class Mirroring(Record):
    """The settings of F-MNIST's run."""

    fraction: Share
    classes: list[Annotated[int, Field(ge=0, le=9)]]
    axis: str
    seed: Whole


class Run(Record):
    """One `run.json`."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    id: str
    stage: Literal["pretrain", "fmnist", "finetune"]
    method: str | None = None
    k: Whole | None = None
    seed: Whole
    study: str | None = None
    status: Literal["running", "done", "failed", "interrupted"] = "running"
    parents: Parents = Parents()
    params: Params | None = None
    checkpoint_bytes: Whole | None = None
    metrics: dict[str, Metrics] = Field(default_factory=dict[str, Metrics])
    before: dict[str, Metrics] = Field(default_factory=dict[str, Metrics])
    """For a fine-tuned run: its base on the same test images."""
    checks: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Facts that the run verified about itself, such as the logits' change at birth."""
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """The settings that the run reads: what its id's hash is made of."""
    cost: Cost | None = None
    env: dict[str, Any] = Field(default_factory=dict[str, Any])
    started: Time = ""
    ended: Time | None = None
    error: Failure | None = None
    files: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")], Sha256] = Field(
        default_factory=dict[str, str]
    )
    maker: str | None = None
    """While it is running: the process that makes it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _holds_what_is_read_again(self) -> Self:
        if self.stage != "fmnist":
            Checks.model_validate(self.checks, strict=True)
            Rate.model_validate(self.settings, strict=True)
        elif self.checks:
            TypeAdapter(dict[Literal["train", "test"], Census]).validate_python(self.checks, strict=True)
            Mirroring.model_validate(self.settings, strict=True)
        return self

    @property
    def label(self) -> str:
        """What a table calls this run, without its seed and hash: `lora-k4`."""
        return self.id.rsplit("-s", 1)[0]


class _Study(Record):
    """What `Store.remember_study` keeps, as far as it is read again."""

    runs: list[str]


class BenchCost(BaseModel):
    """What the report reads of one entry of a bench record; the rest is kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    label: str
    speedup: Amount | None
    state_bytes: Annotated[Whole, Field(ge=1)]


class Bench(BaseModel):
    """What `Store.remember_bench` keeps."""

    model_config = ConfigDict(frozen=True, extra="allow")

    batch_size: Whole
    threads: Whole
    rounds: Whole
    costs: list[BenchCost]


Note = TypeVar("Note", bound=BaseModel)


@dataclass(frozen=True)
class Broken:
    """A folder that should be a run and cannot be read."""

    id: str
    reason: str


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def make_id(label: str, seed: int, inputs: Mapping[str, Any]) -> str:
    """`<label>-s<seed>-<hash8>`, the hash taken of `inputs` as canonical JSON."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{label}-s{seed}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either what it held before or all of `data`, whatever happens.

    For one writer at a time. What a killed one left behind is replaced, and a link in its place is not followed.
    """
    part = _beside(path)
    part.unlink(missing_ok=True)
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _shown(text: str, also: str = "") -> str:
    """`text` without what no terminal should be sent; the characters of `also` stay."""
    return "".join(c if c.isprintable() or c in also else "�" for c in text)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


class Folder:
    """A run's folder while the run is in progress; only `Store.start` makes one."""

    def __init__(self, path: Path, draft: Run) -> None:
        self.path = path
        self.run = draft
        self._files: dict[str, str] = {}

    def begin(self) -> None:
        """Put a folder that holds the first record and nothing else in the place of an earlier try's, in one step."""
        part = _beside(self.path)
        if part.exists():
            shutil.rmtree(part)
        try:
            part.mkdir(parents=True)
            self._record(part)
            if self.path.is_dir():
                self.path.rename(part / "earlier")
            part.rename(self.path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        if (earlier := self.path / "earlier").exists():
            shutil.rmtree(earlier)

    def write(self, name: str, data: bytes) -> None:
        """Add a file to the run; its checksum goes into `run.json`."""
        write_atomic(self.path / name, data)
        self._files[name] = hashlib.sha256(data).hexdigest()

    def finish(self, run: Run) -> None:
        """Write the final record, the last write of all."""
        self.run = run.model_copy(update={"status": "done", "ended": now(), "files": self._files, "maker": None})
        self._record(self.path)

    def stop(self, status: Literal["failed", "interrupted"], error: BaseException) -> None:
        """Record why the run ended early, as far as the disk still takes it."""
        message = _shown(str(error)[:2000], "\t\n")
        failure = Failure(type=type(error).__name__, message=message or type(error).__name__)
        self.run = self.run.model_copy(
            update={"status": status, "ended": now(), "error": failure, "files": self._files, "maker": None}
        )
        with contextlib.suppress(OSError):
            self._record(self.path)

    def _record(self, place: Path) -> None:
        text = self.run.model_dump_json(by_alias=True, indent=1) + "\n"
        write_atomic(place / "run.json", text.encode())


class Store:
    """All runs below one folder.

    Args:
        root: the runs folder; made when the first run is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, run_id: str) -> Path:
        """The folder of the run `run_id`.

        Raises:
            UsageError: `run_id` has not the form of an id, so it cannot lead out of the runs folder.
        """
        if not ID.fullmatch(run_id):
            raise UsageError(f"{run_id!r} is no run id; ids look like lora-k4-s0-7f3c2a91")
        return self.root / run_id

    def load(self, run_id: str) -> Run:
        """Read one record.

        Raises:
            InputError: there is none, or it is damaged.
        """
        folder = self.path(run_id)
        record = folder / "run.json"
        try:
            if folder.is_symlink() or record.is_symlink():
                raise InputError(f"{record}: lorabench reads no run through a symbolic link")
            if not record.is_file():
                raise InputError(f"{record}: there is no such run record")
            if record.stat().st_size > MAX_RECORD_BYTES:
                raise InputError(f"{record}: larger than {MAX_RECORD_BYTES:,} bytes, so it is no run record")
            content = record.read_bytes()
            if _CONTROL.search(content):
                raise InputError(f"{record}: no valid run record: it holds characters that steer a terminal")
            run = Run.model_validate_json(content)
        except OSError as error:
            raise InputError(f"{record}: cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = _shown(".".join(str(part) for part in first["loc"])[:100])
            raise InputError(f"{record}: no valid run record: {where + ': ' if where else ''}{first['msg']}") from error
        if run.id != run_id:
            raise InputError(f"{record}: describes the run {run.id[:100]!r}, not {run_id}")
        if not all(ID.fullmatch(parent) for parent in (run.parents.base, run.parents.data) if parent):
            raise InputError(f"{record}: no valid run record: a parent has no run's id")
        if run.status == "running" and not self._alive(run_id):
            return run.model_copy(update={"status": "interrupted"})
        return run

    def cached(self, run_id: str) -> Run | None:
        """The finished run `run_id` with all its files in place, or None."""
        if not (self.path(run_id) / "run.json").is_file():
            return None
        try:
            run = self.load(run_id)
        except InputError:
            return None
        complete = all((self.path(run_id) / name).is_file() for name in run.files)
        return run if run.status == "done" and complete else None

    def scan(self) -> tuple[list[Run], list[Broken]]:
        """All runs, oldest first, and the folders that look like runs and cannot be read."""
        runs: list[Run] = []
        broken: list[Broken] = []
        names = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        with _uncollected():
            for name in sorted(filter(ID.fullmatch, names)):
                try:
                    runs.append(self.load(name))
                except InputError as error:
                    broken.append(Broken(name, str(error)))
        return sorted(runs, key=lambda run: (run.started, run.id)), broken

    def find(self, pattern: str) -> list[Run]:
        """Runs by id, unique prefix, glob, or `@last` (the newest).

        Raises:
            InputError: nothing fits (the nearest ids are named), or the one that fits is damaged.
            UsageError: a prefix fits several runs.
        """
        return self.select([pattern])[0]

    def select(self, patterns: Sequence[str]) -> tuple[list[Run], list[Broken]]:
        """The runs that all `patterns` stand for, each once, and the folders that a glob takes in and nobody can read.

        Raises:
            InputError: as `find`.
            UsageError: as `find`.
        """
        found: dict[str, Run] = {}
        damaged: dict[str, Broken] = {}
        scanned: tuple[list[Run], list[Broken]] | None = None
        for pattern in patterns:
            if ID.fullmatch(pattern):
                with contextlib.suppress(InputError):
                    found[pattern] = self.load(pattern)
                    continue
            runs, broken = scanned = scanned or self.scan()
            if any(c in pattern for c in "*?["):
                damaged |= {folder.id: folder for folder in broken if fnmatch.fnmatchcase(folder.id, pattern)}
            found |= {run.id: run for run in self._fitting(pattern, runs, broken)}
        return list(found.values()), list(damaged.values())

    def _fitting(self, pattern: str, runs: Sequence[Run], broken: Sequence[Broken]) -> list[Run]:
        if pattern == "@last":
            if not runs:
                raise InputError(f"there are no runs in {self.root}; `lorabench study` makes some")
            return [runs[-1]]
        if any(c in pattern for c in "*?["):
            found = [run for run in runs if fnmatch.fnmatchcase(run.id, pattern)]
            if not found:
                unreadable = sum(fnmatch.fnmatchcase(folder.id, pattern) for folder in broken)
                more = f" that can be read; {unreadable} cannot: lorabench ls" if unreadable else ""
                raise InputError(f"no run in {self.root} fits {pattern}{more}")
            return found
        found = [run for run in runs if run.id.startswith(pattern)]
        if len(found) > 1:
            names = ", ".join(run.id for run in found[:5])
            raise UsageError(f"{pattern} fits {len(found)} runs: {names}; name one, or write {pattern}* for all")
        if not found:
            damaged = [folder for folder in broken if folder.id.startswith(pattern)]
            if damaged:
                raise InputError(damaged[0].reason)
            near = difflib.get_close_matches(pattern, [run.id for run in runs], n=3, cutoff=0.3)
            hint = f"; the nearest are {', '.join(near)}" if near else "; `lorabench ls` lists what there is"
            raise InputError(f"no run {pattern} in {self.root}{hint}")
        return found

    def bases(self, runs: Iterable[Run]) -> dict[str, Run]:
        """The bases that `runs` were made from, by id, as far as they are there."""
        known = {run.id: run for run in runs}
        wanted = {run.parents.base for run in known.values() if run.parents.base}
        for base in wanted - known.keys():
            with contextlib.suppress(InputError, UsageError):
                known[base] = self.load(base)
        return {base: known[base] for base in wanted if base in known}

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
        found = npz.read(path, np.uint8)
        if len({len(digits) for digits in found.values()}) > 1 or any((digits > 9).any() for digits in found.values()):
            raise InputError(f"{path}: must hold a digit for every test image; run it again with --force")
        return found

    def history(self, run: Run) -> list[Epoch]:
        """The run's epochs in their order; empty if it wrote none.

        Raises:
            InputError: the file is not the one that the run wrote, or holds anything else.
        """
        name = "history.jsonl"
        if name not in run.files:
            return []
        path = self.intact(run, name)
        try:
            return [Epoch.model_validate_json(line) for line in path.read_bytes().splitlines()]
        except ValidationError as error:
            raise InputError(f"{path}: no history of a run; run it again with --force") from error

    def intact(self, run: Run, name: str) -> Path:
        """The path of a file of the run, after a look at its checksum.

        Raises:
            InputError: it is missing, or not the one that the run wrote.
        """
        path = self.path(run.id) / name
        if path.is_symlink():
            raise InputError(f"{path}: lorabench reads no run through a symbolic link")
        if not path.is_file():
            raise InputError(f"{path}: there is no such file; make the run again with --force")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes, so no file of a run; remove it")
        if run.files.get(name) != sha256_file(path):
            raise InputError(f"{path}: not the file that the run wrote, its SHA-256 differs; run it again with --force")
        return path

    def remember_study(self, name: str, run_ids: Sequence[str]) -> None:
        """Record which runs the study `name` consists of: what `report` shows without arguments."""
        path = self.root / ".studies" / f"{name}.json"
        record = {"schema": SCHEMA, "name": name, "ended": now(), "runs": list(run_ids)}
        with self._noting(path):
            newest = max((other.lstat().st_mtime_ns for other in path.parent.glob("*.json")), default=0)
            write_atomic(path, json.dumps(record, indent=1).encode())
            if path.stat().st_mtime_ns <= newest:  # the clock was put back, or is coarse
                os.utime(path, ns=(newest + 1, newest + 1))

    def remember_bench(self, record: Mapping[str, Any]) -> None:
        """Keep what `bench` measured last, for the report's cost claims."""
        path = self.root / ".bench.json"
        with self._noting(path):
            write_atomic(path, json.dumps(record, indent=1).encode())

    @contextlib.contextmanager
    def _noting(self, path: Path) -> Generator[None]:
        """Make the place for a note about runs, and keep other processes from writing one meanwhile."""
        with _writable(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._lock("notes")
            Path(lock.lock_file).parent.mkdir(exist_ok=True)
            with lock:
                yield

    def newest_bench(self) -> dict[str, Any] | None:
        """What `remember_bench` kept; None if it never did.

        Raises:
            InputError: the record is damaged.
        """
        path = self.root / ".bench.json"
        return _read_note(path, Bench, "bench").model_dump() if os.path.lexists(path) else None

    def newest_study(self) -> list[str] | None:
        """Ids of the runs of the study that ended last; None if no study did.

        Raises:
            InputError: its record is damaged.
        """
        records = sorted((self.root / ".studies").glob("*.json"), key=lambda path: path.lstat().st_mtime_ns)
        if not records:
            return None
        found = _read_note(records[-1], _Study, "study").runs
        return [run_id for run_id in found if ID.fullmatch(run_id)]

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

        lock = self._lock(self.path(run_id).name)
        with _writable(self.root):
            lock_path = Path(lock.lock_file)
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                message = f"{run_id} is being made by {self._maker(run_id) or 'another lorabench process'}"
                if not wait:
                    raise LockedError(message) from error
                if on_wait:
                    on_wait(f"{message}; waiting for it")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def start(self, draft: Run, config: str) -> Generator[Folder]:
        """A fresh folder for `draft`, emptied of an earlier try; the caller holds the lock.

        Leaving the block without `finish`, by an exception or not, records the run as failed or interrupted.

        Raises:
            RunFailedError: the disk refuses (full, read-only), here or inside the block.
        """
        path = self.path(draft.id)
        maker = f"process {os.getpid()} on {platform.node()}"
        folder = Folder(path, draft.model_copy(update={"started": now(), "status": "running", "maker": maker}))
        with _writable(path):
            if path.is_symlink():
                raise InputError(f"{path}: is a symbolic link; lorabench writes no run through one")
            folder.begin()
            try:
                folder.write("config.yaml", config.encode())
                yield folder
            except KeyboardInterrupt as error:
                folder.stop("interrupted", error)
                raise
            except BaseException as error:
                folder.stop("failed", error)
                raise

    def give_up(self, run_id: str, error: BaseException) -> None:
        """Record why a run has failed whose process is gone and could not say so itself."""
        with contextlib.suppress(InputError, LockedError), self.locked(run_id, wait=False):
            run = self.load(run_id)
            if run.status != "done":
                Folder(self.path(run_id), run).stop("failed", error)

    def _lock(self, name: str) -> FileLock:
        from filelock import FileLock  # imported late: with it comes asyncio, which `ls` need not wait for

        return FileLock(self.root / ".locks" / f"{name}.lock")

    def _maker(self, run_id: str) -> str | None:
        with contextlib.suppress(InputError):
            return self.load(run_id).maker
        return None

    def _alive(self, run_id: str) -> bool:
        """Whether a live process works on the run."""
        from filelock import Timeout

        lock = self._lock(run_id)
        if not Path(lock.lock_file).is_file():
            return False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:
            return False
        lock.release()
        return False


@contextlib.contextmanager
def _uncollected() -> Generator[None]:
    """Keep the garbage collector from what is made inside, now and later.

    Records hold no cycles, and to look for some among thousands of them takes longer than to read them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def _read_note(path: Path, model: type[Note], what: str) -> Note:
    try:
        if not path.is_symlink() and path.stat().st_size <= MAX_RECORD_BYTES:
            return model.model_validate_json(path.read_bytes())
        problem = "a symbolic link, or too large"
    except OSError as error:
        problem = error.strerror or str(error)
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"])
    raise InputError(f"{path}: no valid record of a {what}: {problem}; remove it")


@contextlib.contextmanager
def _writable(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise RunFailedError(f"{error.filename or path}: cannot be written: {error.strerror or error}") from error
