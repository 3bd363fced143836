"""Stages on the workers of a Dask cluster, which may be other machines and share no disk with the driver.

What a stage needs travels with it: its settings, and its base's record and weights, which stay on the cluster for the
stages after it. A worker makes the run in a private folder of its own and sends back the record and the files. The
driver alone touches the runs folder: it holds the run's lock meanwhile, compares every checksum, and writes the run.
MNIST does not travel: every worker fetches it and verifies it, and the images that it changed are compared by hash.

    dask scheduler --port 8786
    dask worker HOST:8786 --nworkers -1 --nthreads 1          # on each machine
    lorabench study --engine dask://HOST:8786
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import socket
import threading
import uuid
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast, get_args

from lorabench import events, npz
from lorabench.errors import InputError, LockedError, RunFailedError
from lorabench.events import Event
from lorabench.runner import stages
from lorabench.runner.engines.dask_worker import (
    Payload,
    UnfitWorkerError,
    difference,
    hash_flips,
    make_payload,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Executor

    from lorabench.config import Config
    from lorabench.events import Emit
    from lorabench.runner.engines import Perform
    from lorabench.runner.stages import Stage
    from lorabench.runs import Run, Store

CONNECT_S, WORKERS_S, ANSWER_S = 3, 2, 4
"""How long, at most, until there is a scheduler, until it has a worker, and until all workers have answered."""
PATROL_S = 5
"""So often a driver that waits for a run looks whether there is still a worker that could make it."""
BASES = 16
"""Bases that stay on the cluster."""


@contextlib.contextmanager
def open_dask(
    host: str, port: int, store: Store, settings: Config, emit: Emit
) -> Generator[tuple[Executor, Perform, int]]:
    """`open_engine` for a cluster: two stages for each of its workers are under way, so that none waits for the driver.

    Raises:
        InputError: `distributed` is not installed, no scheduler answers, it has no workers, or they have other
            versions than the driver.
    """
    with _connected(host, port, emit) as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        driver = _Driver(client, store, settings, emit)
        pool = ThreadPoolExecutor(2 * workers, "lorabench")
        try:
            yield pool, driver.perform, 2 * workers
        except BaseException:
            driver.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _connected(host: str, port: int, emit: Emit) -> Generator[Any]:
    """A client of the scheduler, whose workers have been looked at. Meanwhile Dask logs and warns of nothing."""
    try:
        from distributed.versions import VersionMismatchWarning
    except ImportError as error:
        raise InputError("--engine dask://... needs Dask: pip install 'lorabench[dask]'") from error
    levels = {logger: logger.level for logger in map(logging.getLogger, ("distributed", "distributed.client"))}
    try:
        for logger in levels:  # what goes wrong is raised here, in a line
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # `difference` says it, and more
            with _client(host, port, emit) as client:
                yield client
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextlib.contextmanager
def _client(host: str, port: int, emit: Emit) -> Generator[Any]:
    """`_connected`, whatever Dask says meanwhile."""
    import distributed

    place, ours = f"dask://{host}:{port}", versions()
    address = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
        theirs = asyncio.run(asyncio.wait_for(_ask(address), CONNECT_S))
    except OSError as error:
        raise InputError(f"{place}: no Dask scheduler answers there: {error.strerror or 'not in time'}") from error
    except Exception as error:  # whatever a server that speaks no Dask does to who reads it
        raise InputError(f"{place}: what answers there is no Dask scheduler") from error
    if text := difference("the scheduler", theirs, {name: ours[name] for name in theirs}):
        raise InputError(f"{place}: {text}")
    try:
        client: Any = distributed.Client(address, timeout=CONNECT_S, set_as_default=False, name="lorabench")
    except OSError as error:
        raise InputError(f"{place}: the Dask scheduler answers no more: {error}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as error:
            command = f"dask worker {host}:{port} --nworkers -1 --nthreads 1"
            raise InputError(f"{place}: the scheduler has no workers; on each machine start  {command}") from error
        asked = ThreadPoolExecutor(1).submit(client.run, versions, on_error="return")
        try:
            answers = asked.result(timeout=ANSWER_S)
        except TimeoutError as error:
            raise InputError(f"{place}: its workers do not answer") from error
        if different := [
            text for name, theirs in answers.items() if (text := difference(f"the worker {name}", theirs, ours))
        ]:
            raise InputError("\n".join(f"{place}: {text}" for text in different))
        threads = [worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        hint = ", each with one stage at a time: --nthreads 1 --nworkers N uses N cores" if max(threads) > 1 else ""
        emit(events.Message(f"{place}: {len(threads)} worker{'s' if len(threads) > 1 else ''}{hint}"))
        yield client


async def _ask(address: str) -> dict[str, str]:
    """Dask's versions at a scheduler.

    Raises:
        LookupError: it is another of Dask's servers.
    """
    from distributed import rpc

    async with rpc(address) as connection:
        server = cast("Any", connection)
        if (await server.identity())["type"] != "Scheduler":
            raise LookupError(address)
        found = (await server.versions())["packages"]
    return {name: found[name] for name in ("dask", "distributed")}


class _Driver:
    """The side that has the runs folder."""

    def __init__(self, client: Any, store: Store, settings: Config, emit: Emit) -> None:
        self._client, self._store, self._emit = client, store, emit
        self._settings = settings.model_copy(update={"threads": settings.threads or 1})
        self._versions = versions()
        self._flips: dict[str, str] = {}
        self._stopped = threading.Event()
        self._running: set[Any] = set()
        self._unfit: set[str] = set()
        self._said: set[str] = set()
        self._topic = f"lorabench-{uuid.uuid4().hex}"
        self._base = functools.lru_cache(BASES)(self._send)
        client.subscribe_topic(self._topic, self._on_event)

    def stop(self) -> None:
        """Take everything back; the threads that wait for it end, and record it as interrupted."""
        self._stopped.set()
        self._client.cancel(list(self._running))

    def perform(self, stage: Stage, *, force: bool, wait: bool) -> tuple[Run, bool]:
        """As `make.perform`, on whichever worker is free."""
        stage = stages.placed(stage, self._store)
        with contextlib.ExitStack() as held:
            self._lock(stage, held, wait)
            if not force and (run := stages.cached(stage, self._store)):
                self._emit(events.Finished(stage.id, cached=True))
                return run, True
            path = self._store.path(stage.id)
            with self._store.start(stage.new_record, stage.config_text(path)) as folder:
                made = self._make(stage)
                folder.run = folder.run.model_copy(update={"env": made.run.env})
                for name, data in made.files.items():
                    folder.write(name, data)
                place = {key: made.run.env[key] for key in ("device", "threads")}
                folder.write("config.yaml", stage.config_text(path, **place).encode())
                if made.error:
                    raise made.error
                folder.finish(made.run.model_copy(update={"started": folder.run.started}))
        self._emit(events.Finished(stage.id, cached=False))
        return folder.run, False

    def _lock(self, stage: Stage, held: contextlib.ExitStack, wait: bool) -> None:
        """Lock the run until `held` ends; waiting for it can be stopped."""
        said = False
        while True:
            try:
                held.enter_context(self._store.locked(stage.id, wait=False))
                return
            except LockedError as error:
                if not wait:
                    raise
                if not said:
                    self._emit(events.Message(f"{error}; waiting for it", stage.id))
                said = True
            if self._stopped.wait(0.1):
                raise KeyboardInterrupt

    def _make(self, stage: Stage) -> Payload:
        """The run as a worker made it, every file with the checksum that it had there.

        Raises:
            InputError: the base is missing or damaged, or the cluster is gone.
            RunFailedError: the workers died of it, or what came back is not what was sent.
        """
        base = self._base(stage.parents.base) if stage.parents.base else None
        made = None
        while made is None:
            try:
                made = self._made(stage, base)
            except UnfitWorkerError as error:
                self._unfit.add(error.address)
                if not self._fit():
                    raise
                self._emit_once(f"{error}; the others go on without it")
        worker = made.run.env.get("worker", {}).get("host")
        if made.flips:
            known = self._flips.setdefault(str(stage.parents.data or stage.id), self._known_flips(stage) or made.flips)
            if made.flips != known:
                raise InputError(
                    f"{stage.id}: the worker on {worker} changes other images than this study's other runs"
                )
        for name, data in made.files.items():
            if made.run.files.get(name) != hashlib.sha256(data).hexdigest():
                raise RunFailedError(f"{name} from the worker on {worker} is damaged, its SHA-256 differs")
        return made

    def _made(self, stage: Stage, base: Any) -> Payload | None:
        """The run as a worker made it that is not known to be unfit; None if all that could have are gone.

        Raises:
            UnfitWorkerError: this worker is one.
            InputError, RunFailedError: as `_make`.
        """
        from distributed import KilledWorker

        fit = self._fit() if self._unfit else None
        key = f"lorabench-{stage.id}-{uuid.uuid4().hex}"
        future = self._client.submit(
            make_payload, stage, self._settings, base, self._versions, self._topic, key=key, pure=False, workers=fit
        )
        ended = threading.Event()

        def told(_: object) -> None:
            ended.set()

        self._running.add(future)
        try:
            if self._stopped.is_set():
                future.cancel()
            # `result` with a timeout fails now and then where both come at once.
            future.add_done_callback(told)
            while not ended.wait(PATROL_S):
                now = self._fit()
                if not now:
                    self._emit_once("the cluster has no worker left; waiting for one")
                elif fit and not set(fit) & set(now):
                    future.cancel()
                    return None
            return cast("Payload", future.result())
        except CancelledError as error:
            if self._stopped.is_set():
                raise KeyboardInterrupt from error
            raise InputError("the Dask scheduler is gone; the same command goes on from what is finished") from error
        except KilledWorker as error:
            raise RunFailedError("every worker that tried it died: killed from outside, or out of memory") from error
        finally:
            self._running.discard(future)

    def _fit(self) -> list[str]:
        """Addresses of the workers that are there and not known to be unfit."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return [address for address in workers if address not in self._unfit]

    def _emit_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._emit(events.Message(text))

    def _send(self, run_id: str) -> Any:
        """A finished run on the cluster: its record and its model. A worker that dies takes no last copy with it."""
        name = "model.safetensors"
        run, model = self._store.steady(run_id, lambda run: (run, self._store.intact(run, name).read_bytes()))
        key = f"lorabench-base-{run.files[name]}"
        return self._client.submit(Payload, run, {name: model}, key=key)

    def _known_flips(self, stage: Stage) -> str | None:
        """The hash of the masks that the runs folder has for this stage."""
        import numpy as np

        run = self._store.finished(stage.parents.data) if stage.parents.data else None
        if not run:
            return None
        masks = npz.read(self._store.intact(run, "flips.npz"), np.bool_)
        return hash_flips(masks["train"], masks["test"]) if {"train", "test"} <= masks.keys() else None

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """Emit what a worker's `EventSender` said."""
        kinds = {kind.__name__: kind for kind in get_args(Event)}
        said = event[1]
        self._emit(kinds[said["kind"]](**said["fields"]))
