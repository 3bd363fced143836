"""The stages in their order: what is there is taken, what is missing is made, parents first.

runs = run(stages.study(config), config, store, emit=print)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench import events
from lorabench.config import Config
from lorabench.errors import LorabenchError, RunFailedError, WorkerDiedError
from lorabench.events import Emit
from lorabench.runner import engines, stages
from lorabench.runner.stages import Stage
from lorabench.runs import Run, Store

if TYPE_CHECKING:
    Submit = Callable[..., Future[tuple[Run, bool]]]
    """Takes a stage and the keyword `force`."""

DIED = "its worker process died, and again when it was tried alone"


@dataclass(frozen=True)
class Result:
    """What became of one stage: its finished run, made now or there already (`cached`), or why there is none.

    `culprit` is the id of the run that failed: the stage's own, whose `error` it is, or that of its base.
    """

    stage: Stage
    run: Run | None = None
    cached: bool = False
    reason: str | None = None
    culprit: str = ""
    error: BaseException | None = field(default=None, compare=False)


def run(
    todo: Sequence[Stage],
    config: Config,
    store: Store,
    *,
    data_dir: Path | None = None,
    workers: int = 1,
    force: Collection[str] = (),
    patient: bool = True,
    keep_going: bool = False,
    engine: str | None = None,
    on_result: Callable[[Result], None] | None = None,
    emit: Emit,
) -> dict[str, Run]:
    """Make the runs of all stages, as far as they are not there, and return those that are done by id.

    A stage waits for its base alone: which images F-MNIST mirrors follows from the settings. Where a worker process
    dies, the stages that were in progress are tried once more, one at a time, which tells which of them it died of.

    Args:
        todo: the stages, each after its parents.
        config: says the device and the threads.
        store, data_dir: where runs are, and MNIST; None for the user's cache.
        workers: how many stages run side by side, each in a process of its own; 1 runs them in this process.
        force: ids of stages to run again even if they are there.
        patient: wait for a run that another live process makes, or else give up (LockedError).
        keep_going: on failure, record it, skip the stages that depend on it, and go on. Missing data, a damaged
            parent or a lock stops all the same.
        engine: `dask://HOST:PORT` or `tls://HOST:PORT` for the workers of that cluster; None for this machine.
        on_result: called with each result as it comes; the runs are then not returned, to save memory.
        emit: called with every event.

    Raises:
        LorabenchError: the first other failure of a stage; those that had begun are finished.
    """
    done: dict[str, Run] = {}
    settled = 0

    def settle(result: Result) -> None:
        nonlocal settled
        settled += 1
        if result.error:
            emit(events.Failed(str(result.reason), result.stage.id, result.error))
        emit(events.Overall(settled, len(todo)))
        if on_result:
            on_result(result)
        elif result.run:
            done[result.stage.id] = result.run

    missing: list[Stage] = []
    for stage in todo:
        if stage.id not in force and (run := stages.cached(stage, store)):
            emit(events.Finished(run.id, cached=True))
            settle(Result(stage, run, cached=True))
        else:
            missing.append(stage)
    queue = Queue(missing, force, store, keep_going=keep_going)
    workers = min(workers, len(missing))
    while not queue.empty:
        try:
            with engines.open_engine(workers, store, data_dir, config, emit, engine) as (executor, perform, capacity):
                for result in queue.results(partial(executor.submit, perform, wait=patient), capacity):
                    settle(result)
        except WorkerDiedError as error:
            for result in queue.give_up_dead(error):
                settle(result)
    if queue.failure:
        raise queue.failure
    return {stage.id: done[stage.id] for stage in todo if stage.id in done}


class Queue:
    """The stages still to make, parents before children.

    Attributes:
        failure: what stops the whole queue; what has begun is finished all the same.
    """

    def __init__(self, missing: Sequence[Stage], force: Collection[str], store: Store, *, keep_going: bool) -> None:
        self.failure: BaseException | None = None
        self._force, self._store, self._keep_going = force, store, keep_going
        self._ready: deque[Stage] = deque()
        self._children: dict[str, list[Stage]] = {}
        self._running: dict[Future[tuple[Run, bool]], Stage] = {}
        # Stages that a worker process died of, perhaps. Each has one more try, alone, and is in `_tried` from then on.
        self._suspects: deque[Stage] = deque()
        self._tried: set[str] = set()
        self._dead: list[Stage] = []
        ids = {stage.id for stage in missing}
        for stage in missing:
            if stage.parents.base in ids:
                self._children.setdefault(stage.parents.base, []).append(stage)
            else:
                self._ready.append(stage)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to begin."""
        return self.failure is not None or not (self._ready or self._suspects)

    def results(self, submit: Submit, capacity: int) -> Iterator[Result]:
        """Make what can be made, until all is done, and yield what became of each stage.

        No more than `capacity` are in flight: a death leaves few suspects, and no step looks at the whole queue.

        Raises:
            BrokenProcessPool: a worker process has died, and its executor with it.
        """
        broken: BaseException | None = None
        while not broken and (self._running or not self.empty):
            finished: set[Future[tuple[Run, bool]]] = set()
            try:
                self._fill(submit, capacity)
                finished = wait(self._running, return_when=FIRST_COMPLETED).done
                errors = [future.exception() for future in finished]
                broken = next((error for error in errors if isinstance(error, BrokenProcessPool)), None)
            except BrokenProcessPool as error:
                broken = error
            if broken:
                finished = wait(self._running).done
            for future in [future for future in self._running if future in finished]:
                yield from self._settle(self._running.pop(future), future)
        if broken:
            raise broken

    def _fill(self, submit: Submit, capacity: int) -> None:
        while not self.empty:
            alone = self._suspects or any(stage.id in self._tried for stage in self._running.values())
            if len(self._running) >= (1 if alone else capacity):
                return
            waiting = self._suspects or self._ready
            future = submit(waiting[0], force=waiting[0].id in self._force)
            self._running[future] = waiting.popleft()

    def _settle(self, stage: Stage, future: Future[tuple[Run, bool]]) -> Iterator[Result]:
        error = future.exception()
        if error is None:
            run, cached = future.result()
            self._ready.extend(self._children.pop(stage.id, ()))
            yield Result(stage, run, cached=cached)
        elif isinstance(error, BrokenProcessPool):
            if stage.id not in self._tried:
                self._tried.add(stage.id)
                self._suspects.append(stage)
            else:
                self._dead.append(stage)
        elif isinstance(error, LorabenchError) and not isinstance(error, RunFailedError):
            self.failure = self.failure or error
        else:
            yield from self._fail(stage, error)

    def give_up_dead(self, error: WorkerDiedError) -> Iterator[Result]:
        """Record what a worker process died of twice. To be called once the executor is closed.

        Before that the process may still be on its way out, and hold the lock of its run.
        """
        while self._dead:
            stage, died = self._dead.pop(), RunFailedError(f"{DIED}: {error.how}")
            died.__cause__ = error
            self._store.give_up(stage.id, died)
            yield from self._fail(stage, died)

    def _fail(self, stage: Stage, error: BaseException) -> Iterator[Result]:
        if not self._keep_going:
            failure = error
            if isinstance(error, RunFailedError):
                failure = RunFailedError(f"{stage.id}: {error}")
                failure.__cause__ = error  # --debug shows where it happened, in a worker too
            self.failure = self.failure or failure
            return
        reason = str(error) if isinstance(error, RunFailedError) else f"{type(error).__name__}: {error}"
        yield Result(stage, reason=reason, culprit=stage.id, error=error)
        for child in self._children.pop(stage.id, ()):
            yield Result(child, reason=f"its base failed: {reason}", culprit=stage.id)
