"""Where stages run: this process, worker processes, or a Dask cluster. Behind one `concurrent.futures.Executor`.

    cores.py       how many processors there really are
    here.py        this process
    processes.py   worker processes side by side, which share this machine's cores
    dask.py        the workers of a Dask cluster, which may be other machines and share no disk

with open_engine(2, store, data_dir, config, tell) as (executor, perform, capacity):
    run, cached = executor.submit(perform, stage, force=False, wait=True).result()
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lorabench.errors import UsageError
from lorabench.runner.engines.cores import cores
from lorabench.runner.engines.here import open_here
from lorabench.runner.engines.processes import open_processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lorabench.config import Config
    from lorabench.events import Tell
    from lorabench.runs import Run, Store

    Perform = Callable[..., tuple[Run, bool]]

__all__ = ["cores", "open_engine", "scheduler"]


def scheduler(engine: str) -> tuple[str, int]:
    """Host and port of the scheduler in `dask://HOST:PORT`.

    Raises:
        UsageError: not of that form.
    """
    match = re.fullmatch(r"dask://([^\s/:]+|\[[0-9A-Fa-f:]+\]):(\d{1,5})", engine, re.ASCII)
    if not match or not 0 < int(match[2]) < 2**16:
        raise UsageError(f"engine {engine}: write dask://HOST:PORT, e.g. dask://127.0.0.1:8786")
    return match[1].strip("[]"), int(match[2])


def open_engine(
    workers: int, store: Store, data_dir: Path | None, settings: Config, tell: Tell, engine: str | None = None
) -> AbstractContextManager[tuple[Executor, Perform, int]]:
    """An executor, the function to submit to it with a stage and the keywords `force` and `wait`, and how many at once.

    Without `engine` that is this process for one worker, and so many processes of their own for more; with
    `dask://HOST:PORT` it is that cluster with all workers that it has. Leaving the block by an exception stops
    what runs, and what it was at is recorded as interrupted.

    Raises:
        UsageError: `engine` has another form.
        InputError: no cluster is there that could do it.
    """
    if engine:
        from lorabench.runner.engines.dask import open_dask

        return open_dask(*scheduler(engine), store, settings, tell)
    return (
        open_here(store, data_dir, settings, tell)
        if workers == 1
        else open_processes(workers, store, data_dir, settings, tell)
    )
