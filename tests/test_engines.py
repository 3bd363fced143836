"""Where stages run: how many processors there are, which GPU a worker takes, and two commands that want one run."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import torch
from test_cli import Lab

from lorabench.engines import processes
from lorabench.engines.cores import cores, quota
from lorabench.work import spread

if TYPE_CHECKING:
    from pathlib import Path

TINY = ["-s", "holdout=50000", "-s", "pretrain.epochs=1", "-s", "finetune.epochs=1", "--threads", "1"]
V2 = "0::/user.slice/job\n"
V1 = "7:memory:/job\n4:cpu,cpuacct:/docker/job\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {}, math.inf),
        (V2, {"user.slice/job/cpu.max": "150000 100000"}, 1.5),
        (V2, {"user.slice/job/cpu.max": "max 100000", "user.slice/cpu.max": "300000 100000"}, 3),
        (V2, {"user.slice/job/cpu.max": "400000 100000", "cpu.max": "50000 100000"}, 0.5),
        (V1, {"cpu/docker/job/cpu.cfs_quota_us": "-1", "cpu/docker/job/cpu.cfs_period_us": "100000"}, math.inf),
        (V1, {"cpu/docker/job/cpu.cfs_quota_us": "250000", "cpu/docker/job/cpu.cfs_period_us": "100000"}, 2.5),
        (V1, {"cpu,cpuacct/docker/cpu.cfs_quota_us": "100000", "cpu,cpuacct/docker/cpu.cfs_period_us": "50000"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "600000", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ("nonsense", {"cpu.max": "200000 100000"}, 2),
        (V2, {"user.slice/job/cpu.max": "nonsense"}, math.inf),
    ],
)  # fmt: skip
def test_every_level_of_the_control_groups_counts(
    tmp_path: Path, own: str, files: dict[str, str], expected: float
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert quota(tmp_path / "groups", tmp_path / "own") == expected
    assert cores() >= 1


def test_workers_take_the_gpus_in_turn() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert [spread(cuda, seat, 2) for seat in range(4)] == [torch.device("cuda", i) for i in (0, 1, 0, 1)]
    assert [spread(cpu, seat, 2) for seat in range(2)] == [cpu, cpu]
    assert spread(cpu, 3, 0) == cpu


def test_workers_without_a_gpu_say_so(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lab = Lab(tmp_path / "runs", data_dir)
    message = lab.fails(4, "study", "--seeds", "0-1", "-s", "study.workers=2", *TINY, "--device", "cuda")
    assert message.startswith("device cuda: torch ")


def test_two_studies_at_once_do_each_run_once(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lab = Lab(tmp_path / "runs", data_dir)
    study = ["study", "--seeds", "0", *TINY, "-s", "pretrain.epochs=40"]
    first = lab.start(*study)
    run_id = first.line(": epoch 1/40").split(":")[0]
    first.process.send_signal(signal.SIGSTOP)
    held = f"{run_id} is being made by process {first.process.pid} on "
    assert held in lab.fails(75, *study, "--no-wait")

    second = lab.start(*study)
    assert held in second.line("waiting for it")
    first.process.send_signal(signal.SIGCONT)
    said = [first.end(), second.end()]
    assert [first.process.returncode, second.process.returncode] == [0, 0], said
    records = lab.records()
    assert {record["status"] for record in records.values()} == {"done"}
    assert {record["maker"] for record in records.values()} == {None}
    for run in records:
        made = [text.count(f"{run}: done") for text in said]
        assert sum(made) == 1, (run, said)
    assert said[0].count("device auto: no GPU here, running on the CPU") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_what_must_not_be_disturbed(number: signal.Signals) -> None:
    """Though another thread is there, which the system may hand the signal to."""
    stop, told, inside = threading.Event(), list[int](), False
    other = threading.Thread(target=stop.wait)
    other.start()
    before = signal.signal(number, lambda number, _: told.append(number))
    try:
        with processes.undisturbed():
            os.kill(os.getpid(), number)
            for _ in range(100):  # Python answers a signal between two of its own steps
                time.sleep(0.001)
            inside = bool(told)
    finally:
        signal.signal(number, before)
        stop.set()
        other.join()
    assert (inside, told) == (False, [number])


def test_a_worker_that_does_not_stop_is_killed() -> None:
    """It is as deaf as one that has only just been started; `end` waits, but not for ever."""
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    with processes.undisturbed():
        worker.start()
    processes.end([worker])
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL


def test_workers_that_never_hear_that_it_is_over_are_no_obstacle(tmp_path: Path) -> None:
    """As where one was killed that held the lock of the queue: here all are stopped."""
    script = (
        "import multiprocessing, os, signal, sys, time; from pathlib import Path\n"
        "from lorabench import config, methods; from lorabench.engines import open_engine\n"
        "from lorabench.runs import Store\n"
        "if __name__ == '__main__':\n"
        "    settings = config.load(methods=methods.schemas()).config\n"
        "    with open_engine(2, Store(Path(sys.argv[1])), None, settings, print) as (pool, _, _):\n"
        "        for slept in [pool.submit(time.sleep, 0.5) for _ in range(2)]: slept.result()\n"
        "        workers = multiprocessing.active_children()\n"
        "        for worker in workers: os.kill(worker.pid, signal.SIGSTOP)\n"
        "    assert len(workers) == 2 and not multiprocessing.active_children()\n"
    )
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "script.py", tmp_path], check=True, timeout=120)
