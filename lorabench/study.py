"""The stages in their order: what is there is taken, what is missing is made, parents first.

runs = run(stages.study(config), config, store, tell=print)
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING

from lorabench import engines, events
from lorabench.errors import LorabenchError, RunFailedError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from lorabench.config import Config
    from lorabench.events import Tell
    from lorabench.runs import Run, Store
    from lorabench.stages import Stage


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
    tell: Tell,
) -> dict[str, Run]:
    """Make the runs of all stages, as far as they are not there, and return those that are done by id.

    A stage waits for its base alone: which images F-MNIST mirrors follows from the settings.

    Args:
        todo: the stages, each after its parents.
        config: says the device and the threads.
        store: where runs are.
        data_dir: where MNIST is, None for the user's cache.
        workers: how many stages run side by side, each in a process of its own; 1 runs them in this process.
        force: ids of stages to run again even if they are there.
        patient: wait for a run that another live process makes, or else give up (LockedError).
        keep_going: a run that fails (RunFailedError) is told of and left out, with all that it is a parent of.
        engine: `dask://HOST:PORT` for the workers of that cluster; None for this machine.
        tell: hears of everything that happens.

    Raises:
        LorabenchError: the first other failure of a stage; those that had begun are finished.
    """
    done: dict[str, Run] = {}
    for stage in todo:
        if stage.id not in force and (there := store.cached(stage.id)):
            done[stage.id] = there
            tell(events.Finished(stage.id, cached=True))
    missing = [stage for stage in todo if stage.id not in done]
    if not missing:
        return {stage.id: done[stage.id] for stage in todo}
    failure: LorabenchError | None = None
    with engines.open_engine(min(workers, len(missing)), store, data_dir, config, tell, engine) as (
        executor,
        perform,
    ):
        running: dict[Future[tuple[Run, bool]], Stage] = {}
        while running or (missing and not failure):
            unfinished = {stage.id for stage in (*missing, *running.values())}
            for stage in [s for s in missing if not failure and s.parents.base not in unfinished]:
                missing.remove(stage)
                future = executor.submit(perform, stage, force=stage.id in force, wait=patient)
                running[future] = stage
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(future)
                try:
                    done[stage.id] = future.result()[0]
                except RunFailedError as error:
                    if not keep_going:
                        failure = failure or error
                        continue
                    tell(events.Message(str(error), stage.id))
                    missing = [other for other in missing if other.parents.base != stage.id]
                except LorabenchError as error:
                    failure = failure or error
    if failure:
        raise failure
    return {stage.id: done[stage.id] for stage in todo if stage.id in done}
