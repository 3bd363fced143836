"""Notes beside the runs: which runs a study has, what `bench` and `scale --measure` measured last; and the locks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorabench import files
from lorabench.errors import InputError, RunFailedError
from lorabench.runs.folder import write_atomic
from lorabench.runs.record import ID, MAX_RECORD_BYTES, SCHEMA, Record, Time, Whole, now

if TYPE_CHECKING:
    from filelock import FileLock

Note = TypeVar("Note", bound=BaseModel)

BENCH, MEASUREMENT = ".bench.json", ".scale.json"
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Broken:
    """A folder that should be a run, or a note, and cannot be read."""

    id: str
    reason: str


class Study(Record):
    """What `Store.remember_study` keeps: the runs of a study, sweep or tuning, and the settings that ask for them."""

    name: str = ""
    kind: Literal["study", "sweep", "tune"] = "study"
    ended: Time = ""
    runs: list[str]
    config: dict[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def when(self) -> datetime:
        """When it ended, in UTC unless it says otherwise; long ago if it does not say."""
        ended = datetime.fromisoformat(self.ended) if self.ended else datetime.fromtimestamp(0, UTC)
        return ended if ended.tzinfo else ended.replace(tzinfo=UTC)


class BenchCost(BaseModel):
    """What the report reads of one entry of a bench record; the rest is kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    label: str
    speedup: Annotated[float, Field(gt=0)] | None
    ratios: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list[float])
    noisy: bool = False
    state_bytes: Annotated[Whole, Field(ge=1)]


class Bench(BaseModel):
    """What `Store.remember_bench` keeps."""

    model_config = ConfigDict(frozen=True, extra="allow")

    batch_size: Whole
    threads: Whole
    rounds: Whole
    costs: list[BenchCost]


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MeasuredSide(BaseModel):
    """What the report reads of one way to train a number of blocks; the rest is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    peak_bytes: int | None
    checkpoint_bytes: Annotated[Whole, Field(ge=1)]
    gradients_s: Annotated[list[Seconds], Field(min_length=1)]
    update_s: Annotated[list[Seconds], Field(min_length=1)]


class MeasuredBlocks(BaseModel):
    """Both ways at a number of blocks, or the method alone."""

    model_config = ConfigDict(frozen=True, extra="allow")

    blocks: Annotated[Whole, Field(ge=1)]
    tuned: MeasuredSide
    full: MeasuredSide | None = None


class Measurement(BaseModel):
    """What `Store.remember_measurement` keeps."""

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: str
    method: str
    options: dict[str, Any]
    targets: list[str]
    counts: Annotated[list[MeasuredBlocks], Field(min_length=1)]


class Notes:
    """The notes in the folder `root`, each written whole, by one process at a time, and read through no link."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def remember_study(self, name: str, run_ids: Sequence[str], **how: Any) -> None:
        """Record which runs the study `name` consists of: what `report` shows without arguments.

        `how` has the `kind` and the `config` of `Study`, if it is to be shown as what it was.
        """
        path = self.root / ".studies" / _file_of(name)
        with contextlib.suppress(InputError):
            for _, last in self._studies()[-1:]:  # so a finished study can be shown where nothing can be written
                if isinstance(last, Study) and (last.name, last.runs) == (name, list(run_ids)):
                    return
        with self._noting(path):
            for old in path.parent.glob("*.json"):  # an earlier lorabench's, which another study's might replace
                if old.name != (place := _file_of(study_of(old))):
                    files.move(old, old.with_name(place))
            # Later than every other, though the clock was put back: no file's time says which is the newest.
            others = [s.when + TICK for _, s in self._studies() if isinstance(s, Study) and s.when.year < MAXYEAR]
            ended = max([datetime.fromisoformat(now()), *others]).isoformat()
            record = {"schema": SCHEMA, "name": name, **how, "ended": ended, "runs": list(run_ids)}
            write_atomic(path, json.dumps(record, indent=1).encode())

    def remember_bench(self, record: Mapping[str, Any]) -> None:
        """Keep what `bench` measured last, for the report's cost claims."""
        self._remember(BENCH, record)

    def remember_measurement(self, record: Mapping[str, Any]) -> None:
        """Keep what `scale --measure` measured last, for the report's rows on GPT-3."""
        self._remember(MEASUREMENT, record)

    def _remember(self, name: str, record: Mapping[str, Any]) -> None:
        with self._noting(self.root / name):
            write_atomic(self.root / name, json.dumps(record, indent=1).encode())

    @contextlib.contextmanager
    def _noting(self, path: Path) -> Generator[None]:
        """Make the place for a note about runs, and keep other processes from writing one meanwhile."""
        with writable(self.root):
            if path.parent != self.root and path.parent.is_symlink():
                raise InputError(f"{path.parent}: is a symbolic link; lorabench writes no notes through one")
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.lock("notes"):
                yield

    def newest_bench(self) -> dict[str, Any] | None:
        """What `remember_bench` kept; None if it never did.

        Raises:
            InputError: the record is damaged.
        """
        path = self.root / BENCH
        return _read(path, Bench, "bench").model_dump() if os.path.lexists(path) else None

    def newest_measurement(self) -> dict[str, Any] | None:
        """What `remember_measurement` kept; None if it never did.

        Raises:
            InputError: the record is damaged.
        """
        path = self.root / MEASUREMENT
        return _read(path, Measurement, "measurement").model_dump(exclude_none=True) if os.path.lexists(path) else None

    def newest_costs(self, log: Callable[[str], None]) -> list[dict[str, Any] | None]:
        """`newest_bench` and `newest_measurement`; None for a damaged note, of which `log` hears."""
        costs: list[dict[str, Any] | None] = []
        for newest in (self.newest_bench, self.newest_measurement):
            try:
                costs.append(newest())
            except InputError as error:
                log(f"left out: {error}")
                costs.append(None)
        return costs

    def newest_study(self) -> Study | None:
        """The study or sweep that ended last, as its record says; None if none did.

        Raises:
            InputError: the record of a study is damaged, so which is the newest cannot be told.
        """
        for _, study in reversed(self._studies()):
            if isinstance(study, InputError):
                raise study
            if study.kind != "tune":
                return study
        return None

    def studies(self) -> tuple[list[Study], list[Broken]]:
        """All studies, sweeps and tunings, the one that ended last at the end; and the notes that cannot be read."""
        noted = self._studies()
        broken = [Broken(name, str(study)) for name, study in noted if isinstance(study, InputError)]
        return [study for _, study in noted if isinstance(study, Study)], broken

    def study(self, name: str) -> Study:
        """The study of that name.

        Raises:
            InputError: there is none, or its record is damaged.
        """
        noted = dict(self._studies())
        if name not in noted:
            known = f"; there are {', '.join(noted)}" if noted else "; `lorabench study` makes one"
            raise InputError(f"no study {name} in {self.root}{known}")
        if isinstance(study := noted[name], InputError):
            raise study
        return study

    def _studies(self) -> list[tuple[str, Study | InputError]]:
        """The studies by name, the one that ended last at the end; after them what is wrong with the damaged notes."""
        folder = self.root / ".studies"
        if not os.path.lexists(folder):
            return []
        try:
            if folder.is_symlink():
                raise InputError(f"{folder}: lorabench reads no notes through a symbolic link")
            paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
        except OSError as error:
            raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from error
        noted = [(study_of(path), _read_study(path)) for path in paths]
        ended = [(study.when, name, study) for name, study in noted if isinstance(study, Study)]
        damaged = [(name, study) for name, study in noted if isinstance(study, InputError)]
        return [*((name, study) for _, name, study in sorted(ended, key=lambda each: each[:2])), *damaged]

    def lock(self, name: str) -> FileLock:
        """The lock of that name. Its file is emptied when it is taken, so it may not be a link to another.

        Raises:
            InputError: it is one, or the folder of the locks is.
            OSError: that folder cannot be made.
        """
        from filelock import FileLock  # imported late: with it comes asyncio, which `ls` need not wait for

        path = self.root / ".locks" / f"{name}.lock"
        for link in (path.parent, path):
            if link.is_symlink():
                raise InputError(f"{link}: is a symbolic link; lorabench takes no lock through one")
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)


def _file_of(study: str) -> str:
    """The name of a study's note: of two studies it is never the same, also where a capital is no other letter."""
    return re.sub("[A-Z]", lambda capital: f"+{capital[0].lower()}", study) + ".json"


def study_of(note: Path) -> str:
    """The name of the study whose note that is."""
    return re.sub(r"\+([a-z])", lambda letter: letter[1].upper(), note.stem)


def _read_study(path: Path) -> Study | InputError:
    try:
        study = _read(path, Study, "study")
    except InputError as error:
        return error
    if all(map(ID.fullmatch, study.runs)):
        return study.model_copy(update={"name": study_of(path)})
    return InputError(f"{path}: no valid record of a study: it names what is no run; remove it")


def _read(path: Path, model: type[Note], noun: str) -> Note:
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_RECORD_BYTES:
            return model.model_validate_json(path.read_bytes())
        problem = "no regular file, or too large"
    except OSError as error:
        problem = error.strerror or str(error)
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"])
    raise InputError(f"{path}: no valid record of a {noun}: {problem}; remove it")


@contextlib.contextmanager
def writable(path: Path) -> Generator[None]:
    """What the disk refuses inside, of `path` if it does not say of what, is a run's failure."""
    try:
        yield
    except OSError as error:
        raise RunFailedError(f"{error.filename or path}: cannot be written: {error.strerror or error}") from error
