"""Stages in worker processes side by side.

A worker is a fresh process that imports torch for itself, so the driver need not, and it sends what it has to tell
through a pipe, so that the user sees one progress display.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from lorabench.engines.cores import cores
from lorabench.errors import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from concurrent.futures import Executor, Future
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Lock
    from pathlib import Path
    from types import FrameType

    from lorabench.config import Config
    from lorabench.engines import Perform
    from lorabench.events import Event, Tell
    from lorabench.runs import Run, Store
    from lorabench.stages import Stage
    from lorabench.work import Lab

GRACE = 1.5
"""Seconds that a worker has to stop once it was told to."""


@contextlib.contextmanager
def open_processes(
    workers: int, store: Store, data_dir: Path | None, settings: Config, tell: Tell
) -> Generator[tuple[Executor, Perform, int]]:
    """`open_engine` for several workers, which share this machine's cores and are spread over its GPUs."""
    settings = settings.model_copy(update={"threads": settings.threads or max(1, cores() // workers)})
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    listener = threading.Thread(target=_listen, args=(reader, tell), daemon=True)
    listener.start()
    seats: SimpleQueue[int] = context.SimpleQueue()
    for seat in range(workers):
        seats.put(seat)
    pool = _Pool(workers, context, _enter, (store, data_dir, settings, writer, context.Lock(), seats))
    try:
        yield pool, _perform, workers
    except BrokenProcessPool as error:
        raise RunFailedError("a worker process died: killed from outside, or out of memory") from error
    finally:
        # Not left to the pool: an idle worker that is killed just now keeps the lock of the queue of calls, another
        # waits for that lock and never hears that it is over, and the pool would wait for both.
        end(multiprocessing.active_children())
        pool.shutdown(cancel_futures=True)
        # With its last writer gone the pipe ends. A last message could wait for ever: for the lock of a killed worker.
        writer.close()
        listener.join(GRACE)


class _Pool(ProcessPoolExecutor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call. It may start a worker, which a signal in the middle would leave behind, half started."""
        with undisturbed():
            return super().submit(fn, *args, **kwargs)


@contextlib.contextmanager
def undisturbed() -> Generator[None]:
    """Put off the signals that stop lorabench. A process that starts inside puts them off until it does not want to."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # Windows; or a thread in which no signal is answered
        return
    resource_tracker.ensure_running()  # its own start would lift the block
    stopping = (signal.SIGINT, signal.SIGTERM)
    late: list[int] = []
    # The block is for the new process, which inherits it. Here it holds for one thread only: the system hands the
    # signal to another, and Python would answer it in this one all the same.
    handlers = {number: signal.signal(number, lambda number, _: late.append(number)) for number in stopping}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if late:
        signal.raise_signal(late[0])


def end(workers: Sequence[BaseProcess]) -> None:
    """Let the workers record that they were interrupted, then make sure that they are gone."""
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(max(0, deadline - time.monotonic()))
        worker.kill()


def _listen(reader: Connection[Event, Event], tell: Tell) -> None:
    with contextlib.suppress(EOFError):
        while True:
            tell(reader.recv())


_open: Callable[[], Lab]
_busy = False


def _enter(
    store: Store,
    data_dir: Path | None,
    settings: Config,
    writer: Connection[Event, Event],
    lock: Lock,
    seats: SimpleQueue[int],
) -> None:
    """Prepare a worker, on one of the `seats`. The driver alone hears Ctrl-C; it stops its workers by SIGTERM.

    Whatever can fail waits for the first stage, which can say so: an error here would only break the pool.
    """
    global _open
    threading.Thread(target=_leave_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    seat = seats.get()

    def tell(event: Event) -> None:
        with lock:
            writer.send(event)

    @functools.cache
    def lab() -> Lab:
        from lorabench import work

        return work.open_lab(store, data_dir, settings, tell, seat=seat)

    _open = lab


def _leave_with(driver: BaseProcess | None) -> None:
    """End this worker when its driver is gone, killed perhaps, so that no orphan goes on."""
    if driver:
        driver.join()
        os._exit(1)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not _busy:
        os._exit(0)
    raise KeyboardInterrupt


def _perform(stage: Stage, *, force: bool, wait: bool) -> tuple[Run, bool]:
    global _busy
    from lorabench import work

    lab = _open()
    _busy = True
    try:
        return work.perform(stage, lab=lab, force=force, wait=wait)
    except KeyboardInterrupt:
        # Not back to the queue of calls, whose lock may have gone with another worker that stopped.
        os._exit(0)
    finally:
        _busy = False
