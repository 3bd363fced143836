"""Stages on the workers of a Dask cluster, which may be other machines and share no disk with the driver.

What a stage needs travels with it: its settings, and its base's record and weights, which stay on the cluster for the
stages after it. A worker makes the run in a private folder of its own and sends back that folder's bytes. The driver
alone touches the runs folder: it holds the run's lock meanwhile, and writes the run once what came was checked as
a run of a stranger's is. MNIST does not travel: every worker fetches it and verifies it, and the images that it changed
are compared by hash.

Dask itself runs code: whoever reaches the scheduler's port can have any worker unpickle what he sends, and, through
what Dask says of a task, the driver too. `tls://` keeps those out who have no certificate of the cluster's.

    dask scheduler --host ADDRESS --port 8786                 # listens at this address alone
    dask worker ADDRESS:8786 --nworkers -1 --nthreads 1       # on each machine
    lorabench study --engine dask://ADDRESS:8786
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import tempfile
import threading
import uuid
import warnings
from collections.abc import Generator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter, ValidationError

from lorabench import events, npz
from lorabench.config import Config
from lorabench.errors import InputError, LockedError, RunFailedError, shown
from lorabench.events import Emit
from lorabench.runner import engines, stages
from lorabench.runner.engines.dask_worker import Answer, difference, hash_flips, make_answer, unpack, versions
from lorabench.runner.stages import Stage
from lorabench.runs import Failure, Run, Store

if TYPE_CHECKING:
    from lorabench.runner.engines import Perform

CONNECT_S, WORKERS_S, ANSWER_S = 3, 2, 4
"""How long, at most, until there is a scheduler, until it has a worker, and until all workers have answered."""
PATROL_S, ALONE_S = 5, 600
"""A driver that waits for a run looks so often for a worker that could make it, and gives up after so long without."""
BASES = 16
"""Bases that stay on the cluster."""
ASKED = ("stage", "method", "k", "seed", "study", "parents", "holdout", "reuse", "mnist", "settings")
"""What the record of a run must have as it was asked for."""
KINDS = {
    kind.__name__: TypeAdapter(kind) for kind in (events.Message, events.Download, events.Started, events.EpochDone)
}
"""The events that a worker may send."""


@contextlib.contextmanager
def open_dask(engine: str, store: Store, settings: Config, emit: Emit) -> Generator[tuple[Executor, Perform, int]]:
    """`open_engine` for a cluster: two stages for each of its workers are under way, so that none waits for the driver.

    Raises:
        InputError: `distributed` is not installed, no scheduler answers, it has no workers, or they have other
            versions than the driver.
    """
    with _connected(engine, emit) as client:
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
def _connected(engine: str, emit: Emit) -> Generator[Any]:
    """A client of the scheduler, whose workers have been looked at. Meanwhile Dask logs and warns of nothing."""
    try:
        from distributed.versions import VersionMismatchWarning
    except ImportError as error:
        raise InputError(f"--engine {engine} needs Dask: pip install 'lorabench[dask]'") from error
    levels = {logger: logger.level for logger in map(logging.getLogger, ("distributed", "distributed.client"))}
    try:
        for logger in levels:  # what goes wrong is raised here, in a line
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # `difference` says it, and more
            with _client(engine, emit) as client:
                yield client
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextlib.contextmanager
def _client(engine: str, emit: Emit) -> Generator[Any]:
    """`_connected`, whatever Dask says meanwhile."""
    import distributed

    host, port = engines.scheduler(engine)
    protocol = "tls" if engine.startswith("tls:") else "tcp"
    address, ours = f"{protocol}://[{host}]:{port}" if ":" in host else f"{protocol}://{host}:{port}", versions()
    security, hint = _security(engine), ""
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
        hint = "" if protocol == "tls" else f"; if it speaks TLS, write {engine.replace('dask:', 'tls:')}"
        theirs = asyncio.run(asyncio.wait_for(_ask(address, security), CONNECT_S))
    except OSError as error:
        why = f"{error.strerror or 'not in time'}{hint}"
        raise InputError(f"{engine}: no Dask scheduler answers there: {why}") from error
    except Exception as error:  # whatever a server that speaks no Dask does to who reads it
        raise InputError(f"{engine}: what answers there is no Dask scheduler{hint}") from error
    if text := difference("the scheduler", theirs, {name: ours[name] for name in ("dask", "distributed")}):
        raise InputError(f"{engine}: {text}")
    try:
        client: Any = distributed.Client(
            address,
            security=security,
            timeout=CONNECT_S,
            set_as_default=False,
            name="lorabench",
            # What a worker answers is no pickle, or is refused.
            serializers=["msgpack"],
            deserializers=["msgpack", "error"],
        )
    except OSError as error:
        raise InputError(f"{engine}: the Dask scheduler answers no more: {error}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as error:
            command = f"dask worker {engine.removeprefix('dask://')} --nworkers -1 --nthreads 1"
            raise InputError(f"{engine}: the scheduler has no workers; on each machine start  {command}") from error
        asked = ThreadPoolExecutor(1).submit(client.run, versions, on_error="return")
        try:
            answers: dict[str, Any] = asked.result(timeout=ANSWER_S)
        except TimeoutError as error:
            raise InputError(f"{engine}: its workers do not answer") from error
        except Exception as error:  # an answer that Dask or msgpack cannot read
            raise InputError(f"{engine}: {difference('a worker', error, ours)}") from error
        sentences = [difference(f"the worker {name}", theirs, ours) for name, theirs in answers.items()]
        if different := [f"{engine}: {text}" for text in sentences if text]:
            raise InputError(*different)
        threads = [worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        hint = ", each with one stage at a time: --nthreads 1 --nworkers N uses N cores" if max(threads) > 1 else ""
        emit(events.Message(f"{engine}: {len(threads)} worker{'s' if len(threads) > 1 else ''}{hint}"))
        yield client


def _security(engine: str) -> Any:
    """Dask's own settings of who may speak to whom.

    Raises:
        InputError: they name a file that is none, or `engine` begins with `tls:` and they name no certificate.
    """
    import distributed

    try:
        security: Any = distributed.Security()
        context = security.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        raise InputError(f"{engine}: Dask's settings distributed.comm.tls are of no use: {error}") from error
    if engine.startswith("tls:") and not context:
        wanted = "ca-file, client.cert and client.key"
        raise InputError(f"{engine}: Dask's settings distributed.comm.tls do not name {wanted}; see docs.dask.org, TLS")
    return security


async def _ask(address: str, security: Any) -> dict[str, str]:
    """Dask's versions at a scheduler.

    Raises:
        LookupError: it is another of Dask's servers.
    """
    from distributed import rpc

    async with rpc(address, connection_args=security.get_connection_args("client")) as connection:
        server = cast("Any", connection)
        if (await server.identity())["type"] != "Scheduler":
            raise LookupError(address)
        return (await server.versions())["packages"]


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
                answer = self._answer(stage)
                made, contents = check(answer, stage)
                self._compare_flips(stage, answer)
                folder.run = folder.run.model_copy(update={"env": made.env})
                for name, data in contents.items():
                    folder.write(name, data)
                device, threads = made.env["device"], self._settings.threads
                folder.write("config.yaml", stage.config_text(path, device=device, threads=threads).encode())
                if made.error:
                    raise failure(made.error, answer)
                folder.finish(made.model_copy(update={"started": folder.run.started}))
        self._emit(events.Finished(stage.id, cached=False))
        return folder.run, False

    def _lock(self, stage: Stage, held: contextlib.ExitStack, wait: bool) -> None:
        """Lock the run until `held` ends; waiting for it can be stopped."""
        while True:
            try:
                held.enter_context(self._store.locked(stage.id, wait=False))
                return
            except LockedError as error:
                if not wait:
                    raise
                self._emit_once(f"{error}; waiting for it", stage.id)
            if self._stopped.wait(0.1):
                raise KeyboardInterrupt

    def _answer(self, stage: Stage) -> Answer:
        """What a worker that is fit for it made of the stage.

        Raises:
            InputError: the base is missing or damaged, the cluster or its last worker is gone, or no worker is fit.
            RunFailedError: the workers died of it, or what came is no answer.
        """
        base = self._base(stage.parents.base) if stage.parents.base else None
        while True:
            answer = self._asked(stage, base)
            if answer and not answer.unfit:
                return answer
            if answer:
                self._unfit.add(answer.address)
                text = f"on the worker {answer.address}: {answer.unfit}"
                if not self._fit():
                    raise InputError(text)
                self._emit_once(f"{text}; the others go on without it")

    def _asked(self, stage: Stage, base: Any) -> Answer | None:
        """What a worker that is not known to be unfit answers; None if all that could have are gone.

        Raises:
            InputError, RunFailedError: as `_answer`.
        """
        from distributed import KilledWorker

        fit, alone = self._fit() if self._unfit else None, 0
        key = f"lorabench-{stage.id}-{uuid.uuid4().hex}"
        future = self._client.submit(
            make_answer, stage, self._settings, base, self._versions, self._topic, key=key, pure=False, workers=fit
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
                alone = 0 if now else alone + 1
                if alone * PATROL_S >= ALONE_S:
                    future.cancel()
                    text = f"the cluster has had no worker for {ALONE_S:g} s"
                    raise InputError(f"{text}; the same command goes on from what is finished")
                if alone:
                    self._emit_once(f"the cluster has no worker left; waiting {ALONE_S:g} s for one")
                elif fit and not set(fit) & set(now):
                    future.cancel()
                    return None
            return Answer.model_validate(future.result())
        except CancelledError as error:
            if self._stopped.is_set():
                raise KeyboardInterrupt from error
            raise InputError("the Dask scheduler is gone; the same command goes on from what is finished") from error
        except KilledWorker as error:
            raise RunFailedError("every worker that tried it died: killed from outside, or out of memory") from error
        except InputError:
            raise
        except Exception as error:  # what comes is no answer: an error of Dask's, of the worker's, or data of its own
            text = shown(str(error).partition("\n")[0][:300])
            raise RunFailedError(f"a worker sent no run but {type(error).__name__}: {text}") from error
        finally:
            self._running.discard(future)

    def _compare_flips(self, stage: Stage, answer: Answer) -> None:
        """Refuse a run of other changed images than the study's other runs have."""
        images = stage.parents.data or stage.id
        if answer.flips and answer.flips != self._flips.setdefault(images, self._known_flips(stage) or answer.flips):
            text = "changes other images than this study's other runs"
            raise InputError(f"{stage.id}: the worker on {answer.host} {text}")

    def _fit(self) -> list[str]:
        """Addresses of the workers that are there and not known to be unfit."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return [address for address in workers if address not in self._unfit]

    def _emit_once(self, text: str, run_id: str | None = None) -> None:
        if text not in self._said:
            self._said.add(text)
            self._emit(events.Message(text, run_id))

    def _send(self, run_id: str) -> Any:
        """A finished run on the cluster: its record and its model. A worker that dies takes no last copy with it."""
        name = "model.safetensors"
        run, model = self._store.steady(run_id, lambda run: (run, self._store.intact(run, name).read_bytes()))
        contents = {"run.json": run.model_dump_json(by_alias=True).encode(), name: model}
        return self._client.submit(dict, contents, key=f"lorabench-base-{run.files[name]}")

    def _known_flips(self, stage: Stage) -> str | None:
        """The hash of the masks that the runs folder has for this stage."""
        import numpy as np

        run = self._store.finished(stage.parents.data) if stage.parents.data else None
        if not run:
            return None
        masks = npz.read(self._store.intact(run, "flips.npz"), np.bool_)
        return hash_flips(masks["train"], masks["test"]) if {"train", "test"} <= masks.keys() else None

    def _on_event(self, event: tuple[float, Any]) -> None:
        """Emit what a worker's `EventSender` said."""
        try:
            fields = {
                key: shown(value) if isinstance(value, str) else value for key, value in event[1]["fields"].items()
            }
            said = KINDS[event[1]["kind"]].validate_python(fields)
        except (LookupError, TypeError, AttributeError, ValidationError):
            return
        self._emit(said)


def check(answer: Answer, stage: Stage) -> tuple[Run, dict[str, bytes]]:
    """The record that a worker sent and its files, after the checks that a run of a stranger's goes through.

    Raises:
        RunFailedError: the record is none, or of another run than `stage`; a file is missing, damaged, or too many.
    """
    with tempfile.TemporaryDirectory(prefix="lorabench-") as place:
        store = Store(Path(place))
        unpack(stage.id, answer.files, store)
        try:
            run = store.load(stage.id)
            names = run.files.keys() - {"config.yaml"}
            if names != answer.files.keys() - {"run.json"}:
                raise InputError("it has other files than its record says")
            for name in names:
                store.intact(run, name)
            if run.status == "done":
                store.history(run)
                store.predictions(run)
        except InputError as error:
            text = str(error).replace(f"{store.path(stage.id)}{os.sep}", "")
            raise RunFailedError(f"what the worker on {answer.host} sent is no run: {text}") from error
    asked = stage.new_record
    for name in ASKED:
        if getattr(run, name) != getattr(asked, name):
            raise RunFailedError(
                f"what the worker on {answer.host} sent is another run: its {name} is not as asked for"
            )
    if run.env.get("device") not in ("cpu", "cuda", "mps") or (not run.error and run.status != "done"):
        raise RunFailedError(f"what the worker on {answer.host} sent is no run that was made: it is {run.status}")
    env = {**run.env, "worker": {"host": answer.host, "address": answer.address}}
    return run.model_copy(update={"env": env}), {name: answer.files[name] for name in sorted(names)}


def failure(told: Failure, answer: Answer) -> Exception:
    """What a run failed of on a worker: whatever is no failed run is a bug. A note says where it happened."""
    known = told.type == RunFailedError.__name__
    error = RunFailedError(told.message) if known else RuntimeError(f"{told.type}: {told.message}")
    error.add_note(shown(f"on the worker {answer.address}:\n{answer.trace}", "\t\n"))
    return error
