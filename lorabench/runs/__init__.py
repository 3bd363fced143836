"""Run folders on disk: create, finish, fail, load, find. Opens no tensor and imports no torch.

    store = Store(Path("runs"))
    with store.start(record, config_text) as folder:      # run.json says "running"
        folder.write("model.safetensors", data)
        folder.finish(record.model_copy(update={...}))    # run.json says "done": the last write

A run's id ends in a hash of everything that the run depends on, so the same inputs find the same folder; whether its
run is the one that is asked for, its record must say (`stages.cached`). Every file
is written beside its place, flushed, and moved there, and so is a new folder with its first record: a kill at any
moment leaves a folder whose `run.json` says that it is unfinished, or none. What lay beside is cleared by the next try.

`lorabench.runs("runs")` is short for `lorabench.notebook.runs("runs")`: a list of flat dicts.

    record   `run.json` as data      folder   one run in progress      store   all of them
    notes    beside the runs: studies, benches, measurements
"""

import sys
from types import ModuleType
from typing import Any

from lorabench.runs.folder import Folder, sha256_file, write_atomic
from lorabench.runs.notes import Broken, Study
from lorabench.runs.record import (
    IMPORTED,
    MAX_FILE_BYTES,
    MAX_RECORD_BYTES,
    Cost,
    Epoch,
    Failure,
    Metrics,
    Params,
    Parents,
    Run,
    Slice,
    earlier,
    make_id,
    now,
)
from lorabench.runs.store import AmbiguousError, Store, shortest, uncollected

__all__ = [
    "IMPORTED",
    "MAX_FILE_BYTES",
    "MAX_RECORD_BYTES",
    "AmbiguousError",
    "Broken",
    "Cost",
    "Epoch",
    "Failure",
    "Folder",
    "Metrics",
    "Params",
    "Parents",
    "Run",
    "Slice",
    "Store",
    "Study",
    "earlier",
    "make_id",
    "now",
    "sha256_file",
    "shortest",
    "uncollected",
    "write_atomic",
]


class _Callable(ModuleType):
    def __call__(self, runs_dir: Any = "runs") -> list[dict[str, Any]]:
        from importlib import import_module  # not this room's to know before it is asked for

        return import_module("lorabench.notebook").runs(runs_dir)


sys.modules[__name__].__class__ = _Callable
