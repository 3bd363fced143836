"""A stage on a worker of a Dask cluster: made in a private folder, sent back to the driver as plain data."""

from __future__ import annotations

import hashlib
import platform
import tempfile
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lorabench import __version__, events
from lorabench.config import Config
from lorabench.errors import InputError
from lorabench.events import Event
from lorabench.runner.stages import Stage
from lorabench.runs import MAX_FILE_BYTES, Store

File = Annotated[str, Field(pattern=r"^((run|history)\.jsonl?|(flips|predictions)\.npz|(model|adapter)\.safetensors)$")]
Line = Annotated[str, Field(pattern=r"^[ -~]{0,300}$")]


class Answer(BaseModel):
    """What a worker sends back of a stage, in types that need no pickle.

    Attributes:
        host, address: of the worker.
        unfit: why it can make no run: it has no MNIST, no torch or not the device, or other versions than the driver.
        files: the run's folder; of a failed run too.
        flips: hash of the masks of the changed images.
        trace: where a failed run failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: Line
    address: Line
    unfit: str = ""
    files: dict[File, Annotated[bytes, Field(max_length=MAX_FILE_BYTES)]] = Field(default_factory=dict[str, bytes])
    flips: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    trace: str = ""


def versions() -> dict[str, str]:
    """What must be the same where the driver runs and where a worker does, for runs to be the same."""
    own = hashlib.sha256()
    for path in sorted(Path(__file__).parents[2].rglob("*.py")):
        own.update(path.read_bytes())
    packages = {name: metadata.version(name).partition("+")[0] for name in ("dask", "distributed", "numpy", "torch")}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"lorabench": f"{__version__} (source {own.hexdigest()[:8]})", "Python": python, **packages}


def difference(name: str, theirs: Any, ours: dict[str, str]) -> str | None:
    """In a sentence, what `name` has in other versions than the driver; None if all are the same.

    Args:
        name: of the worker or the scheduler.
        theirs: its `versions()`, or the exception that came of asking for them.
        ours: the driver's.
    """
    if not isinstance(theirs, dict):
        why = str(theirs).partition("\n")[0]
        return f"{name} has no lorabench that fits the driver's: {type(theirs).__name__}: {why}"
    others = [f"{key} {theirs.get(key)} (here {own})" for key, own in ours.items() if theirs.get(key) != own]
    return f"{name} has {', '.join(others)}; install the same versions there" if others else None


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


def make_answer(
    stage: Stage, settings: Config, base: Mapping[str, bytes] | None, driver: dict[str, str], topic: str
) -> dict[str, Any]:
    """Make the run of `stage` in a folder that is removed afterwards; an `Answer`, as a dictionary.

    Args:
        stage: what to make.
        settings: say the device and the threads.
        base: the files of the run that it starts from, its record and its model.
        driver: `versions()` of the driver.
        topic: where the driver listens.
    """
    from distributed import get_worker

    worker: Any = get_worker()
    answer = Answer(host=platform.node(), address=worker.address)

    def said(**fields: Any) -> dict[str, Any]:
        return answer.model_copy(update=fields).model_dump()

    if text := difference("it", versions(), driver):
        return said(unfit=text)
    try:
        from lorabench.runner import make
        from lorabench.runner.session import open_session
    except (ImportError, OSError) as error:
        return said(unfit=f"torch cannot be imported: {error}")
    with _alone, tempfile.TemporaryDirectory(prefix="lorabench-", dir=worker.local_directory) as place:
        store = Store(Path(place))
        if base:
            unpack(str(stage.parents.base), base, store)
        trace, flips = "", None
        try:
            with open_session(store, None, settings, EventSender(topic)) as session:
                make.perform(stage, session=session)
                _, shifted = session.fmnist_of(stage.config)
                flips = hash_flips(shifted.train, shifted.test)
        except InputError as error:
            return said(unfit=str(error))
        except Cancelled:
            raise
        except Exception:
            if not store.holds(stage.id):
                raise
            trace = traceback.format_exc()
        files = {path.name: path.read_bytes() for path in store.path(stage.id).iterdir() if path.name != "config.yaml"}
        return said(files=files, flips=flips, trace=trace)


def unpack(run_id: str, contents: Mapping[str, bytes], store: Store) -> None:
    """Put a run that came as bytes where `store` finds it, which checks it as it checks a stranger's."""
    folder = store.path(run_id)
    folder.mkdir()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
