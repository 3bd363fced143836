"""A Dask cluster as the engine: real schedulers and workers on this machine, each in a folder of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from benchmarks import cluster as disturbances
from command_line import QUICK, CommandLine, Started
from dask import config as dask_config
from pydantic import ValidationError
from report_factory import pretrain
from safetensors.numpy import load as load_tensors
from test_config import load

import lorabench
from lorabench.errors import InputError, RunFailedError, UsageError
from lorabench.events import Message
from lorabench.runner import engines, stages
from lorabench.runner.engines import dask
from lorabench.runner.engines.dask_worker import Answer, difference, versions
from lorabench.runs import Store

SHORT = ["--seeds", "0", *QUICK, "-s", "pretrain.epochs=6"]
"""Runs of some seconds: time enough to look at a run, and to kill its worker."""
STUDY = ["study", *SHORT]
SWEEP = ["sweep", "--grid", "k=1,4", *SHORT]


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What `condition` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.05)
    return found


class Cluster:
    """A scheduler, the workers that are started on it, and a client that looks at them."""

    def __init__(self, folder: Path, cli: CommandLine, *options: str, **tls: str) -> None:
        from distributed import Client, Security

        self.folder, self.cli = folder, cli
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.file = folder / "scheduler.json"
        arguments = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", *options]
        self.scheduler = self.start("scheduler", *arguments, "--scheduler-file", str(self.file))
        address = wait_for(self.address)
        self.engine = address.replace("tcp://", "dask://")
        self.client: Any = Client(address, set_as_default=False, timeout=120, security=Security(**tls))

    def address(self) -> str | None:
        """The scheduler's, once all of it stands in its file."""
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads(self.file.read_text())["address"]
        return None

    def start(self, kind: str, *arguments: str, name: str = "", **changed: str) -> subprocess.Popen[bytes]:
        place = self.folder / (name or kind)
        place.mkdir()
        env = self.cli.env | changed
        with (place / "log").open("wb") as log:
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
            return subprocess.Popen(command, cwd=place, env=env, stdout=log, stderr=log)

    def add(self, name: str, **changed: str) -> None:
        """Start a worker with one thread, in an environment that is `changed` in part."""
        arguments = ["--scheduler-file", str(self.file), "--nthreads", "1", "--no-nanny", "--local-directory", "."]
        self.workers[name] = self.start("worker", *arguments, "--name", name, name=name, **changed)

    def ready(self) -> None:
        """Wait until the workers are there and have imported lorabench, so that they answer a driver at once."""
        wait_for(lambda: len(self.names()) == len(self.workers))
        self.client.run(versions, on_error="return")

    def names(self) -> dict[str, str]:
        """Address to name of all workers that are there."""
        workers = self.client.sync(self.client.scheduler.identity, n_workers=-1)["workers"]
        return {address: worker["name"] for address, worker in workers.items()}

    def maker(self, run_id: str) -> str:
        """The name of the worker that makes a run."""

        def found() -> list[str]:
            tasks = self.client.processing()
            return [address for address, keys in tasks.items() if any(run_id in str(key) for key in keys)]

        (address,) = wait_for(found)
        return self.names()[address]

    def close(self) -> None:
        self.client.close()
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path, data_dir: Path) -> Generator[Cluster]:
    with contextlib.closing(Cluster(tmp_path, CommandLine(tmp_path / "runs", data_dir))) as cluster:
        yield cluster


def beginning_with(lines: str, folder: Path, cli: CommandLine) -> dict[str, str]:
    """The environment of a process that runs these lines before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(lines)
    return {"PYTHONPATH": os.pathsep.join([str(folder), cli.env.get("PYTHONPATH", "")])}


def begin(cli: CommandLine, *arguments: str, **env: str) -> tuple[Started, str]:
    """A study that has begun, and the run that has ended its first epoch."""
    study = cli.start(*arguments, **env)
    return study, study.line(": epoch 1/").split(":")[0]


@pytest.mark.slow
def test_killed_workers_cost_no_run_and_no_bit(cluster: Cluster, tmp_path: Path) -> None:
    """First one of two, then the other, which leaves none until a third one comes."""
    here = CommandLine(tmp_path / "here", Path(cluster.cli.env["LORABENCH_DATA"]))
    cluster.add("first")
    cluster.add("second")
    here.run(*SWEEP, "-q")
    cluster.ready()
    often = "from lorabench.runner.engines import dask; dask.PATROL_S = 0.2"
    env = beginning_with(often, tmp_path / "often", cluster.cli)
    sweep, interrupted = begin(cluster.cli, *SWEEP, "--engine", cluster.engine, **env)
    victim = cluster.maker(interrupted)
    cluster.workers[victim].kill()
    wait_for(lambda: sweep.said().count(f"{interrupted}: epoch 1/6") == 2)
    survivor = cluster.maker(interrupted)
    assert {victim, survivor} == {"first", "second"}
    cluster.workers[survivor].kill()
    sweep.line("the cluster has no worker left; waiting 600 s for one")
    cluster.add("third")
    said = sweep.end()
    assert sweep.process.returncode == 0, said
    assert said.count(f"{interrupted}: epoch 1/6") == 3, "the run was not begun again"

    records, expected = cluster.cli.records(), here.records()
    assert records.keys() == expected.keys()
    assert len(records) == 4
    for run_id, record in records.items():
        for same in ("status", "metrics", "before", "checks", "params", "settings", "parents"):
            assert record[same] == expected[run_id][same], (run_id, same)
        for name, digest in record["files"].items():
            mine, theirs = cluster.cli.runs / run_id / name, here.runs / run_id / name
            if name.endswith(".npz"):
                assert digest == expected[run_id]["files"][name]
            if name.endswith(".safetensors"):
                one, other = load_tensors(mine.read_bytes()), load_tensors(theirs.read_bytes())
                assert {key: tensor.tobytes() for key, tensor in one.items()} == {
                    key: tensor.tobytes() for key, tensor in other.items()
                }
        assert f"-c {cluster.cli.runs / run_id}" in (cluster.cli.runs / run_id / "config.yaml").read_text()
    (living,) = cluster.names()
    assert records[interrupted]["env"]["worker"]["address"] == living
    assert not list((tmp_path / cluster.names()[living]).rglob("lorabench-*")), "a worker left a folder behind"
    assert "there already" in cluster.cli.run(*SWEEP, "--engine", "dask://127.0.0.1:1").stderr


@pytest.mark.slow
def test_machines_of_their_own_make_the_runs_that_one_makes(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In network namespaces where the system allows them; disturbed by `python tests/benchmarks/cluster.py`."""
    del data_dir
    monkeypatch.setattr(disturbances, "COMMAND", [*disturbances.STUDY, "--seeds", "0"])
    tally = disturbances.disturbed(0, 0, tmp_path)
    assert not tally.failures, "\n".join(tally.failures)


def test_what_stops_a_study_on_a_cluster_is_said(cluster: Cluster) -> None:
    cluster.add("only")
    cluster.ready()
    endless = [*STUDY, "-s", "pretrain.epochs=10000", "--engine", cluster.engine]
    study, run_id = begin(cluster.cli, *endless)
    study.process.send_signal(signal.SIGINT)
    said = study.end()
    assert study.process.returncode == 130, said
    assert "Traceback" not in said
    assert cluster.cli.records()[run_id]["status"] == "interrupted"

    def idle(dask_worker: Any) -> bool:
        return not dask_worker.state.tasks

    wait_for(lambda: all(cluster.client.run(idle).values()))
    diverging = [*STUDY, "-s", "pretrain.lr=1e6", "--engine", cluster.engine]
    assert "the loss became" in cluster.cli.fails(5, *diverging)
    failed = next(record for record in cluster.cli.records().values() if record["status"] == "failed")
    assert (failed["error"]["type"], "history.jsonl" in failed["files"]) == ("RunFailedError", True)
    assert failed["env"]["worker"]["address"] in cluster.names()
    assert ", in fit\n" in cluster.cli.run(*diverging, "--debug", code=5).stderr

    study, run_id = begin(cluster.cli, *endless)
    cluster.scheduler.kill()
    said = study.end()
    assert study.process.returncode == 4, said
    since = said.partition(f"{run_id}: epoch 1/")[2].splitlines()[1:]
    # On a busy machine the client may find that the workers are gone before it finds that the scheduler is.
    assert [line for line in since if ": epoch" not in line and "no worker left" not in line] == [
        "lorabench: the Dask scheduler is gone; the same command goes on from what is finished"
    ]
    assert cluster.cli.records()[run_id]["status"] == "failed"


def test_a_worker_that_can_make_no_run_is_left_out_and_none_is_not_waited_for_without_end(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    cluster.add("unfit", LORABENCH_DATA=str(tmp_path / "a file"))
    cluster.add("fit")
    cluster.ready()
    arguments = [*SWEEP, "-s", "pretrain.epochs=1", "--engine", cluster.engine]
    addresses = {name: address for address, name in cluster.names().items()}
    told = cluster.cli.run(*arguments).stderr
    assert told.count(f"on the worker {addresses['unfit']}: ") == 1
    assert told.count("the others go on without it") == 1
    records = cluster.cli.records().values()
    assert {record["status"] for record in records} == {"done"}
    assert {record["env"]["worker"]["address"] for record in records} == {addresses["fit"]}

    said: list[Any] = []
    store, settings = Store(tmp_path / "later"), [load(sets=[f"fmnist.seed={seed}"]).config for seed in range(6)]
    with engines.open_engine(1, store, None, settings[0], said.append, cluster.engine) as (pool, perform, _):
        for name in ("lorabench", "torch"):
            lines = f"import sys; sys.modules[{name!r}] = None"
            cluster.add(f"no {name}", **beginning_with(lines, tmp_path / f"{name}-modules", cluster.cli))
        wait_for(lambda: len(cluster.names()) == 4)
        later = {name: address for address, name in cluster.names().items()}
        made = [pool.submit(perform, stages.fmnist(each), force=False, wait=True) for each in settings]
        assert {each.result(120)[0].env["worker"]["address"] for each in made} == {addresses["fit"]}
    told = [event.text for event in said if isinstance(event, Message)]
    assert any(text.startswith(f"on the worker {later['no torch']}: torch cannot be imported") for text in told), told

    for name in ("no lorabench", "no torch", "fit"):  # the first has ended by itself if it was given a stage
        cluster.workers[name].kill()
    wait_for(lambda: len(cluster.names()) == 1)
    message = cluster.cli.fails(4, *arguments, "--force")
    assert message.startswith(f"on the worker {addresses['unfit']}: ")

    monkeypatch.setattr(dask, "PATROL_S", 0.1)
    monkeypatch.setattr(dask, "ALONE_S", 0.3)
    said = []
    store, settings = Store(tmp_path / "alone"), load().config
    with engines.open_engine(1, store, None, settings, said.append, cluster.engine) as (pool, perform, _):
        cluster.workers["unfit"].kill()
        wait_for(lambda: not cluster.names())
        made = pool.submit(perform, stages.fmnist(settings), force=False, wait=True)
        with pytest.raises(InputError, match=r"the cluster has had no worker for 0\.3 s; the same command goes on"):
            made.result(120)
    assert "the cluster has no worker left; waiting 0.3 s for one" in [event.text for event in said]


def opened(engine: str, tmp_path: Path) -> str:
    """Why the engine cannot be opened."""
    said: list[Any] = []
    store, settings = Store(tmp_path / "runs"), load().config
    with pytest.raises(InputError) as caught, engines.open_engine(1, store, None, settings, said.append, engine):
        pass
    assert not said
    return str(caught.value)


def test_what_is_no_cluster_is_said(cluster: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "no Dask scheduler answers there: not in time" in opened(f"dask://127.0.0.1:{port}", tmp_path)
    assert "Connection refused" in opened(f"dask://127.0.0.1:{port}", tmp_path)
    assert "the scheduler has no workers; on each machine start  dask worker" in opened(cluster.engine, tmp_path)

    other = tmp_path / "other" / "lorabench"
    shutil.copytree(Path(lorabench.__file__).parent, other)
    (other / "__init__.py").write_text('__version__ = "9.9"\n')
    cluster.add("old", PYTHONPATH=str(other.parent))
    cluster.ready()
    message = opened(cluster.engine, tmp_path)
    assert "has lorabench 9.9 (source " in message
    assert f"(here {lorabench.__version__} (source " in message
    (address,) = cluster.names()
    assert "is no Dask scheduler" in opened(address.replace("tcp", "dask"), tmp_path)


EVIL = """
import sys
from lorabench.runner.engines import dask_worker

class Evil:
    def __reduce__(self):
        return open, ({path!r}, "w")

def evil(*_):
    return Evil()

def raises(*_):
    raise RuntimeError("\x1b[2Jno")

setattr(dask_worker, {name!r}, {answer})
"""
"""Of a worker that somebody else has changed: what it gives back would make a file where it is unpickled."""


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Dask's settings for a cluster whose only member is named by a certificate that it has signed itself."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    named = ["-subj", "/CN=lorabench", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    subprocess.run(
        ["openssl", "req", "-x509", *named, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    roles = ("client", "scheduler", "worker")
    pairs = {f"tls_{role}_{kind}": path for role in roles for kind, path in (("key", key), ("cert", certificate))}
    return {"tls_ca_file": certificate, **pairs}


def test_a_cluster_with_certificates_makes_runs_and_its_answers_are_never_unpickled(
    tmp_path: Path, data_dir: Path, certificates: dict[str, str]
) -> None:
    cli = CommandLine(tmp_path / "runs", data_dir)
    words = {name: name.removeprefix("tls_").replace("ca_", "ca-").replace("_", ".") for name in certificates}
    ours = {f"distributed.comm.tls.{words[name]}": path for name, path in certificates.items()}
    cli.env |= {f"DASK_{name.replace('.', '__').upper()}": path for name, path in ours.items()}
    mark = tmp_path / "mark"
    with contextlib.closing(Cluster(tmp_path, cli, "--protocol", "tls", **certificates)) as cluster:
        assert cluster.engine.startswith("tls://127.0.0.1:")
        study = [*STUDY, "-s", "pretrain.epochs=1", "--engine", cluster.engine]
        for name, answer, code, said in (
            ("versions", "evil", 4, "a worker has no lorabench that fits the driver's: TypeError"),
            (
                "versions",
                "raises",
                4,
                "has no lorabench that fits the driver's: RuntimeError: �[2Jno",
            ),
            ("make_answer", "evil", 5, "a worker sent no run but TypeError"),
            ("make_answer", "raises", 5, "a worker sent no run but RuntimeError: �[2Jno"),
        ):
            worker = f"{answer}-{name}"
            lines = EVIL.format(path=str(mark), name=name, answer=answer)
            cluster.add(worker, **beginning_with(lines, tmp_path / f"{worker}-modules", cli))
            wait_for(cluster.names)  # nobody asks it for anything, that he need not unpickle its answer
            with dask_config.set(ours):
                done = cli.run(*study, code=code)
            assert said in done.stderr
            assert "a bug" not in done.stderr
            assert not mark.exists()
            cluster.workers[worker].kill()
            cluster.workers.pop(worker).wait()
            wait_for(lambda: not cluster.names())
        cluster.add("good")
        cluster.ready()
        with dask_config.set(ours):
            cli.run(*study)
        assert {record["status"] for record in cli.records().values()} == {"done"}

        assert "do not name ca-file, client.cert and client.key" in cli.run(*study, "--force", code=4).stderr
        plain = cluster.engine.replace("tls", "dask")
        plainly = cli.run(*study[:-1], plain, "--force", code=4)
        assert f"not in time; if it speaks TLS, write {cluster.engine}\n" in plainly.stderr
        with dask_config.set({name: str(tmp_path / "none.pem") for name in ours}):
            assert "distributed.comm.tls are of no use: " in cli.run(*study, "--force", code=4).stderr


SETTINGS = load(sets=["finetune.seed=0"]).config


def answer(changes: dict[str, Any], files: dict[str, bytes | None]) -> Answer:
    """What a worker sends of the base of `SETTINGS`, with another record or other files."""
    contents = {"model.safetensors": b"tensors", "predictions.npz": npz(np.array([3], np.uint8)), "history.jsonl": b""}
    made = {"status": "done", "env": {"device": "cpu"}, "metrics": pretrain().metrics}
    run = stages.pretrain(SETTINGS).new_record.model_copy(update=made)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    record = json.loads(run.model_dump_json(by_alias=True)) | {"files": {**sums, "config.yaml": "0" * 64}} | changes
    sent = {"run.json": json.dumps(record).encode(), **contents, **files}
    kept = {name: data for name, data in sent.items() if data is not None}
    return Answer.model_validate({"host": "there", "address": "tcp://there:1", "files": kept})


def npz(digits: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, labels=digits)
    return stream.getvalue()


def test_what_a_worker_sends_is_taken() -> None:
    run, contents = dask.check(answer({}, {}), stages.pretrain(SETTINGS))
    assert contents.keys() == {"model.safetensors", "predictions.npz", "history.jsonl"}
    assert run.env["worker"] == {"host": "there", "address": "tcp://there:1"}


WRONG = npz(np.array([77], np.uint8))


@pytest.mark.parametrize(
    ("changes", "files", "said"),
    [
        ({"id": "pretrain-s0-00000000"}, {}, "describes the run 'pretrain-s0-00000000'"),
        ({"seed": 1}, {}, "its seed is not"),
        ({"settings": {"lr": 1.0}}, {}, "its settings is not"),
        ({"parents": {"base": "../../etc"}}, {}, "a parent has no run's id"),
        ({"study": "\x1b[2J"}, {}, "steer a terminal"),
        ({"status": "running"}, {}, "it is interrupted"),
        ({"env": {"device": "!!python/object"}}, {}, "no run that was made"),
        ({"env": {"many": [0] * 600}}, {}, "more than 500"),
        ({}, {"run.json": b"["}, "no valid run record"),
        ({}, {"run.json": b" " * 1_000_001}, "larger than 1,000,000 bytes"),
        ({}, {"model.safetensors": None}, "other files than its record says"),
        ({}, {"flips.npz": b""}, "other files than its record says"),
        ({}, {"model.safetensors": b"others"}, "SHA-256 differs"),
        ({"files": {"predictions.npz": hashlib.sha256(WRONG).hexdigest()}},
         {"predictions.npz": WRONG, "model.safetensors": None, "history.jsonl": None}, "a digit for every test image"),
    ],
)  # fmt: skip
def test_what_a_worker_sends_is_checked_as_a_strangers_run_is(
    changes: dict[str, Any], files: dict[str, bytes | None], said: str
) -> None:
    with pytest.raises(RunFailedError, match="the worker on there sent") as caught:
        dask.check(answer(changes, files), stages.pretrain(SETTINGS))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["../run.json", "/etc/passwd", "config.yaml", "x.pkl", "run.json\n", ".locks"])
def test_a_worker_names_no_file_but_a_runs(name: str) -> None:
    with pytest.raises(ValidationError):
        answer({}, {name: b""})


def test_other_versions_are_told_apart() -> None:
    ours = versions()
    assert set(ours) == {"lorabench", "Python", "dask", "distributed", "numpy", "torch"}
    assert difference("w", dict(ours), ours) is None
    assert difference("w", {**ours, "torch": "1.0", "Python": "3.8"}, ours) == (
        f"w has Python 3.8 (here {ours['Python']}), torch 1.0 (here {ours['torch']}); install the same versions there"
    )
    assert "no lorabench that fits" in str(difference("w", ModuleNotFoundError("lorabench"), ours))


@pytest.mark.parametrize(
    "engine", ["dask://host", "dask://host:0", "dask://host:70000", "tcp://host:1", "dask://a b:1"]
)
def test_a_place_must_be_named_in_full(engine: str) -> None:
    with pytest.raises(UsageError, match="write dask://HOST:PORT"):
        engines.scheduler(engine)
    assert engines.scheduler("dask://[::1]:8786") == engines.scheduler("tls://[::1]:8786") == ("::1", 8786)


def test_without_dask_the_extra_is_named(module_folder: Path, tmp_path: Path, data_dir: Path) -> None:
    (module_folder / "distributed.py").write_text("raise ImportError('not installed')\n")
    cli = CommandLine(tmp_path / "runs", data_dir)
    said = cli.process(*STUDY, "--engine", "dask://127.0.0.1:1", code=4).stderr
    assert "pip install 'lorabench[dask]'" in said
    assert "write dask://HOST:PORT" in cli.fails(2, *STUDY, "--engine", "cluster")
