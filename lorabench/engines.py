"""Where stages run: in this process, or in worker processes side by side. Behind one `concurrent.futures.Executor`.

A worker is a fresh process that imports torch for itself, so the driver need not, and it sends what it has to tell
through a pipe, so that the user sees one progress display.
"""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.errors import LorabenchError, RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from multiprocessing.synchronize import Lock
    from types import FrameType

    from lorabench.config import Config
    from lorabench.events import Event, Tell
    from lorabench.runs import Run, Store
    from lorabench.stages import Stage
    from lorabench.work import Lab

    Perform = Callable[..., tuple[Run, bool]]


def cores() -> int:
    """How many processors this process may really use: its affinity and its cgroup's quota count."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        affinity = min(affinity, max(1, math.ceil(int(quota) / int(period))))
    return affinity


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
def open_engine(
    workers: int, store: Store, data_dir: Path | None, settings: Config, tell: Tell
) -> Generator[tuple[Executor, Perform]]:
    """An executor, and the function to submit to it with a stage and the keywords `force` and `wait`.

    With one worker that is this process. More are processes of their own that share this machine's cores; leaving the
    block by an exception stops them, and what they were at is recorded as interrupted.
    """
    if workers == 1:
        from lorabench import work

        lab = work.open_lab(store, data_dir, settings, tell)
        yield Here(), functools.partial(work.perform, lab=lab)
        return
    settings = settings.model_copy(update={"threads": settings.threads or max(1, cores() // workers)})
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    listener = threading.Thread(target=_listen, args=(reader, tell), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, context, _enter, (store, data_dir, settings, writer, context.Lock()))
    try:
        yield pool, _perform
    except BrokenProcessPool as error:
        raise RunFailedError("a worker process died: killed from outside, or out of memory") from error
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        # With its last writer gone the pipe ends. A last message could wait for ever: for the lock of a killed worker.
        writer.close()
        listener.join()


def _listen(reader: Connection[Event, Event], tell: Tell) -> None:
    with contextlib.suppress(EOFError):
        while True:
            tell(reader.recv())


_lab: Lab | LorabenchError | None = None
_busy = False


def _enter(store: Store, data_dir: Path | None, settings: Config, writer: Connection[Event, Event], lock: Lock) -> None:
    """Prepare a worker. The driver alone hears Ctrl-C; it stops its workers by SIGTERM."""
    global _lab
    threading.Thread(target=_leave_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    from lorabench import work

    def tell(event: Event) -> None:
        with lock:
            writer.send(event)

    try:
        _lab = work.open_lab(store, data_dir, settings, tell)
    except LorabenchError as error:  # raised where somebody hears it: an initializer's exception breaks the pool
        _lab = error


def _leave_with(driver: BaseProcess | None) -> None:
    """End this worker when its driver is gone, killed perhaps, so that no orphan goes on."""
    if driver:
        driver.join()
        os._exit(1)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    if not _busy:
        os._exit(0)
    raise KeyboardInterrupt


def _perform(stage: Stage, *, force: bool, wait: bool) -> tuple[Run, bool]:
    global _busy
    from lorabench import work

    assert _lab is not None
    if isinstance(_lab, LorabenchError):
        raise _lab
    _busy = True
    try:
        return work.perform(stage, lab=_lab, force=force, wait=wait)
    finally:
        _busy = False
