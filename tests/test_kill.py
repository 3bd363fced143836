"""Killed at any moment: nothing finished is lost, nothing half-done is taken for done, nothing is left lying about."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import crashing
import pytest
from benchmarks import kill

from lorabench.errors import RunFailedError
from lorabench.runs import Store, write_atomic


@pytest.mark.parametrize("scene", ["fresh", "again"])
def test_every_step_on_disk_may_be_the_last(scene: str, tmp_path: Path) -> None:
    script = Path(crashing.__file__)
    done = subprocess.run([sys.executable, script, scene, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20


@pytest.mark.slow
def test_a_killed_and_then_stopped_study_goes_on_and_ends_as_if_nothing_had_been(
    tmp_path: Path, data_dir: Path
) -> None:
    """First the driver, then all by a signal; the seed has both early enough to hit the same runs folder."""
    arguments = [*kill.STUDY, "--seeds", "0", "--data-dir", str(data_dir)]
    tally = kill.kill(arguments, 2, 609, tmp_path, [False, True])
    assert not tally.failures, "\n".join(tally.failures)
    assert sum(tally.victims.values()) == 2
    assert len(tally.seconds) == 1


def test_the_harness_sees_what_a_kill_could_leave(tmp_path: Path) -> None:
    for name in ("one", "other"):
        crashing.work(Store(tmp_path / name), b"x")
    one, other = tmp_path / "one", tmp_path / "other"
    assert kill.differences(one, other) == []
    (other / ".studies" / ".study.json.part").write_text("")
    assert kill.differences(one, other) == [".studies/.study.json.part is too much"]
    (other / ".studies" / ".study.json.part").unlink()
    record = other / crashing.ID / "run.json"
    record.write_text(record.read_text().replace('"done"', '"failed"'))
    assert any("is failed" in difference for difference in kill.differences(one, other))
    record.write_text("{")
    assert any("no valid run record" in difference for difference in kill.differences(one, other))


def test_a_full_disk_is_one_line_and_damages_nothing(tmp_path: Path) -> None:
    """A process that may write no file of more than 4,000 bytes; the system refuses as a full disk does."""
    store = Store(tmp_path)
    crashing.work(store, b"old")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from lorabench.errors import RunFailedError; from lorabench.runs import Run, Store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store, draft = Store(Path(sys.argv[1])), Run(schema=1, id='lora-k4-s1-00000001', stage='finetune', seed=1)\n"
        "try:\n"
        "    with store.locked(draft.id), store.start(draft, '') as folder:\n"
        "        folder.write('model.safetensors', bytes(5000))\n"
        "except RunFailedError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert "lora-k4-s1-00000001: cannot be written: File too large" in done.stdout
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in (tmp_path / "lora-k4-s1-00000001").iterdir()} == {"run.json", "config.yaml"}
    assert store.load("lora-k4-s1-00000001").status == "failed"


def test_a_disk_too_full_to_begin_keeps_the_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    crashing.work(store, b"old")
    run = store.load(crashing.ID)

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RunFailedError, match="No space left"), store.locked(run.id), store.start(run, ""):
        pass
    assert store.finished(run.id) == run
    assert store.intact(run, "model.safetensors").read_bytes() == b"old"
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_a_folder_that_takes_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".studies").write_text("a file in a folder's place")
    (tmp_path / ".locks").write_text("a file in a folder's place")
    store = Store(tmp_path)
    for call in (lambda: store.remember_study("x", []), lambda: store.locked(crashing.ID).__enter__()):
        with pytest.raises(RunFailedError, match="cannot be written"):
            call()


def test_a_clock_that_is_put_back_hides_no_study(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.remember_study("a-long-time-ahead", ["pretrain-s0-00000001"])
    path = tmp_path / ".studies" / "a-long-time-ahead.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ended": "2200-01-01T00:00:00"}))
    for name, run in (("newest", "pretrain-s0-00000002"), ("a-long-time-ahead", "pretrain-s0-00000003")):
        store.remember_study(name, [run])
        assert (newest := store.newest_study())
        assert newest.runs == [run]
    path.write_text(path.read_text().replace("2200", "9999"))
    store.remember_study("newest", ["pretrain-s0-00000004"])


def test_what_a_killed_writer_left_is_no_obstacle_and_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".file.part").write_bytes(random.Random(0).randbytes(100))
    write_atomic(tmp_path / "file", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"x"
