"""Stages in worker processes side by side.

A worker is a fresh process that imports torch for itself, so the driver need not, and it sends what it has to tell
through a pipe, so that the user sees one progress display. `cores` says how many processors there really are for them.
"""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from lorabench.config import Config
from lorabench.errors import InputError, RunFailedError, WorkerDiedError
from lorabench.events import Emit, Event
from lorabench.runner.stages import Stage
from lorabench.runs import Run, Store

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Lock

    from lorabench.runner.engines import Perform
    from lorabench.runner.session import Session

GRACE = 1.5
"""Seconds that a worker has to stop once it was told to."""


@contextlib.contextmanager
def open_processes(
    workers: int, store: Store, data_dir: Path | None, settings: Config, emit: Emit
) -> Generator[tuple[Executor, Perform, int]]:
    """`open_engine` for several workers, which share this machine's cores and are spread over its GPUs."""
    settings = settings.model_copy(update={"threads": settings.threads or max(1, cores() // workers)})
    _track()
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    try:
        indices: SimpleQueue[int] = context.SimpleQueue()
        for worker_index in range(workers):
            indices.put(worker_index)
        pool = _Pool(workers, context, _enter, (store, data_dir, settings, writer, context.Lock(), indices))
    except OSError as error:
        where = "/dev/shm" if sys.platform == "linux" else "shared memory"
        why = f"workers share semaphores in {where}, which takes none: {error.strerror or error}"
        raise InputError(f"{why}; with one worker, --workers 1 or study.workers=1, none is needed") from error
    listener = threading.Thread(target=_listen, args=(reader, emit), daemon=True)
    listener.start()
    broken: BrokenProcessPool | None = None
    killed: list[BaseProcess] = []
    try:
        yield pool, _perform, workers
    except BrokenProcessPool as error:
        broken = error
    finally:
        # Not left to the pool: an idle worker that is killed just now keeps the lock of the queue of calls, another
        # waits for that lock and never hears that it is over, and the pool would wait for both.
        killed = end(list(pool.workers.values()))
        pool.shutdown(cancel_futures=True)
        # With its last writer gone the pipe ends. A last message could wait for ever: for the lock of a killed worker.
        writer.close()
        listener.join(GRACE)
    if broken:
        codes = [worker.exitcode for worker in pool.workers.values() if worker not in killed]
        if any(code and code > 0 for code in codes):
            raise RunFailedError("a worker process cannot start, its own message stands above") from broken
        raise WorkerDiedError(_cause(codes)) from broken


def _cause(codes: Sequence[int | None]) -> str:
    """What a worker died of, by the exit codes of all; SIGTERM is what the others were told to stop by."""
    number = next((-code for code in codes if code and code != -signal.SIGTERM), None)
    if number is None:
        return "killed from outside"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"killed from outside, or out of memory ({name})" if name == "SIGKILL" else name


class _Pool(ProcessPoolExecutor):
    """A pool that knows its workers: its caller may have other processes, and those are not ours to end."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.workers: dict[int, BaseProcess] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call. It may start a worker, which a signal in the middle would leave behind, half started."""
        with undisturbed(), _without_main():
            try:
                return super().submit(fn, *args, **kwargs)
            finally:
                self.workers |= self._processes or {}


@contextlib.contextmanager
def _without_main() -> Generator[None]:
    """Let processes that start inside not import the caller's script: it may start a study, and no worker needs it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def undisturbed() -> Generator[None]:
    """Put off the signals that stop lorabench. A process that starts inside puts them off until it does not want to."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield  # no masks; or a thread in which no signal is answered
        return
    stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    _track()  # its own start would lift the block
    late: list[int] = []
    # The block is for the new process, which inherits it. Here it holds for one thread only: the system hands the
    # signal to another, and Python would answer it in this one all the same.
    handlers = {
        number: signal.signal(number, lambda number, _: late.append(number)) or signal.SIG_DFL for number in stopping
    }
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if late:
        signal.raise_signal(late[0])


def _track() -> None:
    """Start the process that removes semaphores in the end; unlike other signals, it would die of a closed terminal."""
    if sys.platform != "win32":
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(workers: Sequence[BaseProcess]) -> list[BaseProcess]:
    """Let the workers record that they were interrupted, then kill those that are still there, and return these."""
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.terminate()
    # Their sentinels, not their exit codes, which the pool may be about to fetch.
    left = [worker for worker in workers if not connection.wait([worker.sentinel], max(0, deadline - time.monotonic()))]
    for worker in left:
        worker.kill()
    return left


def _listen(reader: Connection[Event, Event], emit: Emit) -> None:
    with contextlib.suppress(EOFError):
        while True:
            emit(reader.recv())


_open: Callable[[], Session]
_busy = False


def _enter(
    store: Store,
    data_dir: Path | None,
    settings: Config,
    writer: Connection[Event, Event],
    lock: Lock,
    indices: SimpleQueue[int],
) -> None:
    """Prepare a worker, on one of the `indices`. The driver alone hears Ctrl-C, or that its terminal is closed.

    It stops its workers by SIGTERM.

    Whatever can fail waits for the first stage, which can say so: an error here would only break the pool.
    """
    global _open
    threading.Thread(target=_leave_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    worker_index, worker = indices.get(), contextlib.ExitStack()

    def emit(event: Event) -> None:
        with lock:
            writer.send(event)

    @functools.cache
    def session() -> Session:
        from lorabench.runner.session import open_session

        return worker.enter_context(open_session(store, data_dir, settings, emit, worker_index=worker_index))

    _open = session


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
    from lorabench.runner import make

    session = _open()
    _busy = True
    try:
        return make.perform(stage, session=session, force=force, wait=wait)
    except KeyboardInterrupt:
        # Not back to the queue of calls, whose lock may have gone with another worker that stopped.
        os._exit(0)
    finally:
        _busy = False


def cores() -> int:
    """The processors that this process is bound to, as far as the quota of its control groups goes; at least one."""
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, quota())))


def quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Processors that the control groups allow, the narrowest of all levels; infinity where nothing limits them.

    Args:
        groups: where control groups are mounted: version 2 itself, or version 1 with a folder for each controller.
        own: names this process's group in each hierarchy, as `number:controllers:path`.
    """
    cores = math.inf
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            mounts = [groups / controllers] if controllers else [groups]
            if "cpu" in controllers.split(","):
                mounts.append(groups / "cpu")
            elif controllers:
                continue
            for mount in mounts:
                cores = min([cores, *map(_limit, _levels(mount, path))])
    # In a container the named group may be hidden, and what limits it stands at the mount itself.
    return min(cores, _limit(groups), _limit(groups / "cpu"))


def _levels(mount: Path, path: str) -> list[Path]:
    """The folders of the group `path` and of all that it lies in."""
    group = mount / path.lstrip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(mount))]


def _limit(group: Path) -> float:
    """Processors that the files of one group allow: `cpu.max` (version 2), `cpu.cfs_*_us` (version 1)."""
    with contextlib.suppress(OSError, ValueError):
        share, period = (group / "cpu.max").read_text().split()
        return int(share) / int(period)
    with contextlib.suppress(OSError, ValueError):
        share, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return share / period if share > 0 else math.inf
    return math.inf
