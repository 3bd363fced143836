"""Where stages run: how many processors there are, which GPU a worker takes, and two commands that want one run."""

from __future__ import annotations

import errno
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from command_line import QUICK, CommandLine

from lorabench import config
from lorabench.errors import InputError
from lorabench.runner.engines import processes
from lorabench.runner.engines.processes import cores, quota
from lorabench.runner.session import spread
from lorabench.runs import Store

STATE = """
import gc, multiprocessing, signal, threading, time, torch
torch.set_num_threads(3)
def state():
    small = (torch.tensor([1e-40]) * 1).item()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return (torch.get_num_threads(), small, gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), handlers,
        signal.pthread_sigmask(signal.SIG_BLOCK, ()), threading.active_count(), torch.initial_seed())
mine = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True)
mine.start()
before = state()
"""
"""Of a program that uses lorabench as a library: what a study leaves as it was, and a process of the program's own."""

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
    cli = CommandLine(tmp_path / "runs", data_dir)
    arguments = ["study", "--seeds", "0-1", "-s", "study.workers=2", *QUICK, "--device", "cuda"]
    assert cli.process(*arguments, code=4).stderr.startswith("lorabench: device cuda: torch ")


@pytest.mark.slow
def test_two_studies_at_once_do_each_run_once(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cli = CommandLine(tmp_path / "runs", data_dir)
    study = ["study", "--seeds", "0", *QUICK, "-s", "pretrain.epochs=5"]
    first = cli.start(*study)
    run_id = first.line(": epoch 1/5").split(":")[0]
    first.process.send_signal(signal.SIGSTOP)
    held = f"{run_id} is being made by process {first.process.pid} on "
    assert held in cli.fails(75, *study, "--no-wait")

    second = cli.start(*study)
    assert held in second.line("waiting for it")
    first.process.send_signal(signal.SIGCONT)
    said = [first.end(), second.end()]
    assert [first.process.returncode, second.process.returncode] == [0, 0], said
    records = cli.records()
    assert {record["status"] for record in records.values()} == {"done"}
    assert {record["maker"] for record in records.values()} == {None}
    for run in records:
        made = [text.count(f"{run}: done") for text in said]
        assert sum(made) == 1, (run, said)
    assert said[0].count("device auto: no GPU here, running on the CPU") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


def test_a_closed_terminal_does_not_end_the_process_that_removes_semaphores(tmp_path: Path) -> None:
    script = """
import os, signal, time
from multiprocessing import resource_tracker
from lorabench.runner.engines import processes
with processes.undisturbed():
    pass
tracker = resource_tracker._resource_tracker._pid
time.sleep(0.3)  # it has its own handlers by then
os.kill(tracker, signal.SIGHUP)
time.sleep(0.3)
print(os.waitpid(tracker, os.WNOHANG)[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


@pytest.mark.slow
def test_three_commands_at_once_of_which_one_makes_the_base_anew(tmp_path: Path, few_images: Path) -> None:
    """The others, held up until it is at it, fine-tune the base that was there."""
    cli = CommandLine(tmp_path / "runs", few_images)
    quick = [*QUICK, "-s", "pretrain.epochs=5", "--threads", "1"]
    cli.run("pretrain", *quick)
    base = cli.only("pretrain-s0")
    others = [cli.start("study", "--seeds", "0", *quick, "-s", f"finetune.k={k}") for k in (1, 2)]
    for other in others:
        other.line(f"{base}: ")
        other.process.send_signal(signal.SIGSTOP)
    anew = cli.start("pretrain", *quick, "--force")
    anew.line(f"{base}: epoch 1/5")
    for other in others:
        other.process.send_signal(signal.SIGCONT)
    said = [command.end() for command in (*others, anew)]
    assert [command.process.returncode for command in (*others, anew)] == [0] * 3, said
    assert {record["status"] for record in cli.records().values()} == {"done"}


def test_where_semaphores_go_is_named_if_it_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    opened = processes.open_processes(2, Store(tmp_path), None, config.load().config, lambda _: None)
    with pytest.raises(InputError, match="which takes none: Read-only file system; with one worker"), opened:
        pass


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
        "from lorabench import config, methods; from lorabench.runner.engines import open_engine\n"
        "from lorabench.runs import Store\n"
        "if __name__ == '__main__':\n"
        "    settings = config.load().config\n"
        "    with open_engine(2, Store(Path(sys.argv[1])), None, settings, print) as (pool, _, _):\n"
        "        for slept in [pool.submit(time.sleep, 0.5) for _ in range(2)]: slept.result()\n"
        "        workers = multiprocessing.active_children()\n"
        "        for worker in workers: os.kill(worker.pid, signal.SIGSTOP)\n"
        "    assert len(workers) == 2 and not multiprocessing.active_children()\n"
    )
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "script.py", tmp_path], check=True, timeout=120)


def script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a program that uses lorabench as a library; `run(...)` there makes F-MNIST and two bases."""
    head = f"""
import contextlib, gc, multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
from lorabench import config, methods
from lorabench.runner import stages, queue
from lorabench.runs import Store

def settings(*sets):
    sets = ["pretrain.epochs=1", "pretrain.batch_size=5000", "threads=1", *sets]
    return config.load(sets=sets).config

def run(*sets, emit=lambda event: None, **keywords):
    chosen = settings("study.seeds=0-1", *sets)
    return queue.run(stages.study(chosen)[:3], chosen, Store(Path({str(folder / "runs")!r})), emit=emit, **keywords)

"""
    (folder / "script.py").write_text(f"{head}\n{text}")
    return subprocess.run(
        [sys.executable, str(folder / "script.py")], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_a_study_leaves_its_callers_process_as_it_was(tmp_path: Path, data_dir: Path) -> None:
    del data_dir
    done = script(
        tmp_path,
        f"""
{STATE}
run(workers=1)
assert state() == before, (state(), before)
Store(Path(sys.argv[0]).parent / "runs").scan()
assert state() == before, (state(), before)
from typer.testing import CliRunner
from lorabench.cli import app
arguments = ["study", "--seeds", "0-1", "--runs-dir", str(Path(sys.argv[0]).parent / "runs"), "-s", "study.workers=2"]
for text in ("pretrain.epochs=1", "pretrain.batch_size=5000", "finetune.epochs=1", "finetune.batch_size=5000"):
    arguments += ["-s", text]
codes = [CliRunner().invoke(app, arguments).exit_code]
other = threading.Thread(target=lambda: codes.append(CliRunner().invoke(app, [*arguments, "--dry-run"]).exit_code))
other.start()
other.join()
assert codes == [0, 0], codes
assert state() == before, (state(), before)
assert multiprocessing.active_children() == [mine] and mine.exitcode is None
mine.kill()
""",
    )
    assert done.returncode == 0, done.stderr


def test_a_worker_that_aborts_says_by_which_signal(tmp_path: Path, data_dir: Path) -> None:
    del data_dir
    done = script(
        tmp_path,
        """
from lorabench import events
def tell(event):
    if isinstance(event, events.Started):
        for child in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGABRT)
run("pretrain.batch_size=50", workers=2, emit=tell)
""",
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith("its worker process died, and again when it was tried alone: SIGABRT"), done.stderr


@pytest.mark.slow
def test_a_study_from_python_needs_no_guard_and_shows_itself(tmp_path: Path, data_dir: Path) -> None:
    """As README shows it; in a script without a guard, and as a REPL or a notebook, where there is no script."""
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    lines = re.search(r"\n    import lorabench\n.*?\n\n(?!    )", readme, re.DOTALL)
    assert lines
    quick = "pretrain.epochs=1 pretrain.batch_size=5000 finetune.epochs=1 finetune.batch_size=5000 threads=1"
    sets = {key: int(value) for key, value in (text.split("=") for text in quick.split())}
    told = textwrap.dedent(lines[0]).replace("seeds=5", f"seeds=2, workers=2, quiet=True, settings={sets}")
    text = f"""
import sys
import lorabench
assert not {{"torch", "numpy", "pydantic"}} & set(sys.modules)
{STATE}
{told}
assert state() == before, (state(), before)
assert multiprocessing.active_children() == [mine]
mine.kill()
assert [run.id for run in found.runs] and "lora-k4" in str(found) and str(found) == repr(found)
html = found._repr_html_()
assert html.count("<table") > 3 and "<style" not in html and "lora-k4" in html
assert len(lorabench.runs("runs")) == len(found.runs)
tuned = [run for run in lorabench.runs("runs") if run["method"] == "lora"]
assert [run["seed"] for run in tuned] == [0, 1], tuned
assert all(isinstance(run["fmnist.accuracy"], float) for run in tuned)
"""
    (tmp_path / "script.py").write_text(text)
    for argument, source in (("script.py", ""), ("-", told.replace("seeds=2", "seeds=1"))):
        done = subprocess.run(
            [sys.executable, argument], input=source, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize(("workers", "keep_going"), [(1, True), (2, False)])
def test_debug_shows_where_a_training_failed(tmp_path: Path, data_dir: Path, workers: int, *, keep_going: bool) -> None:
    cli = CommandLine(tmp_path / "runs", data_dir)
    arguments = ["study", "--seeds", "0-1"]
    if keep_going:
        arguments = ["sweep", "--grid", "pretrain.seed=0,1", "--seeds", "0"]
    diverging = ["-s", f"study.workers={workers}", *QUICK, "-s", "pretrain.lr=1e6"]
    done = cli.run(*arguments, *diverging, "--debug", code=7 if keep_going else 5)
    assert ", in fit\n" in done.stderr
