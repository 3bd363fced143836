"""A stage on a worker of a Dask cluster: made in a private folder, sent back to the driver as bytes."""

from __future__ import annotations

import hashlib
import platform
import tempfile
import threading
import traceback
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench import __version__, events
from lorabench.errors import InputError, LorabenchError, RunFailedError
from lorabench.runs import Store

if TYPE_CHECKING:
    from lorabench.config import Config
    from lorabench.events import Event
    from lorabench.runner.stages import Stage
    from lorabench.runs import Run


class UnfitWorkerError(InputError):
    """The worker at `address` can make no run, for want of MNIST, of the device or of the driver's versions."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, why)
        self.address, self.why = address, why

    def __str__(self) -> str:
        return f"on the worker {self.address}: {self.why}"


@dataclass(frozen=True)
class Payload:
    """A run as it travels: its record and its files. `error` says why there is no more; `flips` hashes the masks."""

    run: Run
    files: dict[str, bytes]
    flips: str | None = None
    error: LorabenchError | None = None


def versions() -> dict[str, str]:
    """What must be the same where the driver runs and where a worker does, for runs to be the same."""
    own = hashlib.sha256()
    for path in sorted(Path(__file__).parents[2].rglob("*.py")):
        own.update(path.read_bytes())
    packages = {name: metadata.version(name).partition("+")[0] for name in ("dask", "distributed", "numpy", "torch")}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"lorabench": f"{__version__} (source {own.hexdigest()[:8]})", "Python": python, **packages}


def difference(name: str, theirs: dict[str, str] | Exception, ours: dict[str, str]) -> str | None:
    """In a sentence, what `name` has in other versions than the driver; None if all are the same."""
    if isinstance(theirs, Exception):
        return f"{name} has no lorabench that fits the driver's: {type(theirs).__name__}: {theirs}"
    found = [f"{what} {theirs.get(what)} (here {own})" for what, own in ours.items() if theirs.get(what) != own]
    return f"{name} has {', '.join(found)}; install the same versions there" if found else None


def hash_flips(train: Any, test: Any) -> str:
    """SHA-256 over the two masks of the changed images."""
    return hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest()


_alone = threading.Lock()
"""Torch's generator and its threads belong to the whole process: its stages run one at a time."""


class Cancelled(Exception):  # noqa: N818 - no error: nobody waits for the run any more
    """The driver took the stage back, or is gone itself."""


@dataclass(frozen=True)
class EventSender:
    """Sends events to the driver that listens to `topic`, and ends a stage that it took back."""

    topic: str

    def __call__(self, event: Event) -> None:
        from distributed import get_worker

        worker: Any = get_worker()
        task = worker.state.tasks.get(worker.get_current_task())
        if task is None or task.state == "cancelled":
            raise Cancelled
        if not isinstance(event, events.Finished):  # the driver says that, once it has the run
            worker.log_event(self.topic, {"kind": type(event).__name__, "fields": asdict(event)})


def make_payload(stage: Stage, settings: Config, base: Payload | None, driver: dict[str, str], topic: str) -> Payload:
    """Make the run of `stage` in a folder that is removed afterwards.

    Args:
        stage: what to make.
        settings: say the device and the threads.
        base: the run that it starts from, with its model.
        driver: `versions()` of the driver.
        topic: where the driver listens.

    Raises:
        UnfitWorkerError: this worker is not like the driver, lacks the device, or cannot have MNIST.
    """
    from distributed import get_worker

    worker: Any = get_worker()
    if text := difference("it", versions(), driver):
        raise UnfitWorkerError(worker.address, text)
    from lorabench.runner import make
    from lorabench.runner.session import open_session

    with _alone, tempfile.TemporaryDirectory(prefix="lorabench-", dir=worker.local_directory) as place:
        store = Store(Path(place))
        if base:
            _unpack(base, store)
        error = flips = None
        try:
            with open_session(store, None, settings, EventSender(topic)) as session:
                run, _ = make.perform(stage, session=session)
                _, flips = session.fmnist_of(stage.config)
        except RunFailedError as failed:
            # The trace stays behind when an error travels; a note goes along.
            failed.add_note(f"on the worker {worker.address}:\n{traceback.format_exc()}")
            run, error = store.load(stage.id), failed
        except InputError as failed:
            raise UnfitWorkerError(worker.address, str(failed)) from failed
        return Payload(
            run.model_copy(update={"env": {**run.env, "worker": {"host": platform.node(), "address": worker.address}}}),
            {name: (store.path(run.id) / name).read_bytes() for name in run.files},
            hash_flips(flips.train, flips.test) if flips else None,
            error,
        )


def _unpack(payload: Payload, store: Store) -> None:
    """Put a run where `load_model` finds it, which compares the checksums."""
    folder = store.path(payload.run.id)
    folder.mkdir()
    (folder / "run.json").write_text(payload.run.model_dump_json(by_alias=True))
    for name, data in payload.files.items():
        (folder / name).write_bytes(data)
