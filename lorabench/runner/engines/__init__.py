"""Where stages run: this process, worker processes, or a Dask cluster. Behind one `concurrent.futures.Executor`.

    processes.py   worker processes side by side, which share this machine's cores
    dask.py        the workers of a Dask cluster, which may be other machines and share no disk
    dask_worker.py what such a worker does

with open_engine(2, store, data_dir, config, emit) as (executor, perform, capacity):
    run, cached = executor.submit(perform, stage, force=False, wait=True).result()
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.config import Config
from lorabench.errors import UsageError
from lorabench.events import Emit
from lorabench.runner.engines.processes import cores, open_processes
from lorabench.runs import Run, Store

if TYPE_CHECKING:
    Perform = Callable[..., tuple[Run, bool]]

__all__ = ["cores", "open_engine", "scheduler"]


def scheduler(engine: str) -> tuple[str, int]:
    """Host and port of the scheduler in `dask://HOST:PORT`, or `tls://HOST:PORT` if the cluster speaks TLS.

    Raises:
        UsageError: not of that form.
    """
    match = re.fullmatch(r"(?:dask|tls)://([^\s/:]+|\[[0-9A-Fa-f:]+\]):(\d{1,5})", engine, re.ASCII)
    if not match or not 0 < int(match[2]) < 2**16:
        raise UsageError(f"engine {engine}: write dask://HOST:PORT or tls://HOST:PORT, e.g. dask://127.0.0.1:8786")
    return match[1].strip("[]"), int(match[2])


def open_engine(
    workers: int, store: Store, data_dir: Path | None, settings: Config, emit: Emit, engine: str | None = None
) -> AbstractContextManager[tuple[Executor, Perform, int]]:
    """An executor, the function to submit to it with a stage and the keywords `force` and `wait`, and how many at once.

    Without `engine` that is this process for one worker, and so many processes of their own for more; with
    `dask://HOST:PORT` or `tls://HOST:PORT` it is that cluster with all workers that it has. Leaving the block by an
    exception stops what runs, and what it was at is recorded as interrupted.

    Raises:
        UsageError: `engine` has another form.
        InputError: no cluster is there that could do it.
    """
    if engine:
        from lorabench.runner.engines.dask import open_dask

        return open_dask(engine, store, settings, emit)
    if workers == 1:
        return _open_here(store, data_dir, settings, emit)
    return open_processes(workers, store, data_dir, settings, emit)


class Here(Executor):
    """Runs each call at once, in this process and thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn` now; the future that comes back is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed on by the future, as every executor does
            future.set_exception(error)
        return future


@contextlib.contextmanager
def _open_here(
    store: Store, data_dir: Path | None, settings: Config, emit: Emit
) -> Generator[tuple[Executor, Perform, int]]:
    """`open_engine` for one worker."""
    from lorabench.runner import make
    from lorabench.runner.session import open_session

    with open_session(store, data_dir, settings, emit) as session:
        yield Here(), functools.partial(make.perform, session=session), 1
