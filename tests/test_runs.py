"""Run folders: what a kill, a full disk or a curious hand can do to them, and what lorabench makes of it."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import platform
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from lorabench.errors import InputError, LockedError, RunFailedError, UsageError
from lorabench.runs import Parents, Run, Store, make_id, shortest, write_atomic

ID = "lora-k4-s0-00000000"


def draft(run_id: str = ID) -> Run:
    return Run(schema=1, id=run_id, stage="finetune", method="lora", k=4, seed=0)


def finished(store: Store, run_id: str = ID) -> Run:
    with store.locked(run_id), store.start(draft(run_id), "seed: 0\n") as folder:
        folder.write("model.safetensors", b"tensors")
        folder.finish(folder.run)
    return folder.run


def test_a_finished_run_is_found_and_cached(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    run = finished(store)
    assert store.finished(ID) == store.load(ID) == run
    assert run.status == "done"
    assert set(run.files) == {"config.yaml", "model.safetensors"}
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.name.endswith(".part")]


def test_an_unfinished_run_is_not_cached_and_says_why(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="oops"), store.locked(ID), store.start(draft(), ""):
        raise ValueError("oops")
    run = store.load(ID)
    assert (run.status, run.error and run.error.message) == ("failed", "oops")
    with pytest.raises(KeyboardInterrupt), store.locked(ID), store.start(draft(), ""):
        raise KeyboardInterrupt
    assert store.load(ID).status == "interrupted"
    assert store.finished(ID) is None


def _die(root: Path) -> None:
    store = Store(root)
    with store.locked(ID), store.start(draft(), ""):
        os._exit(9)


def test_a_killed_run_is_called_interrupted_and_its_lock_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    victim = context.Process(target=_die, args=(tmp_path,))
    victim.start()
    victim.join()
    store = Store(tmp_path)
    assert victim.exitcode == 9
    assert json.loads((tmp_path / ID / "run.json").read_text())["status"] == "running"
    assert store.load(ID).status == "interrupted"
    with store.locked(ID, wait=False):
        pass


def _hold(root: Path, held: Event, release: Event) -> None:
    store = Store(root)
    with store.locked(ID), store.start(draft(), "") as folder:
        held.set()
        release.wait(60)
        folder.finish(folder.run)


def test_a_live_process_keeps_its_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, release))
    other.start()
    held.wait(60)
    store = Store(tmp_path)
    assert store.load(ID).status == "running"
    with pytest.raises(LockedError, match=f"made by process {other.pid} on "), store.locked(ID, wait=False):
        pass
    said: list[str] = []

    def on_wait(text: str) -> None:
        said.append(text)
        release.set()

    with store.locked(ID, on_wait=on_wait):
        assert store.finished(ID) is not None
    other.join()
    assert said == [f"{ID} is being made by process {other.pid} on {platform.node()}; waiting for it"]


def test_unreadable_records_are_named_and_hide_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store)
    bad = {
        "lora-k4-s1-00000001": b'{"schema": 1, "id": "lora-k4-s1-0000',
        "lora-k4-s1-00000002": b"\xff\xfe",
        "lora-k4-s1-00000003": b'{"schema": 2}',
        "lora-k4-s1-00000004": (tmp_path / ID / "run.json").read_bytes(),
        "lora-k4-s1-00000005": b"[" * 100_000,
        "lora-k4-s1-00000006": b" " * 1_000_001,
    }
    for name, content in bad.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_bytes(content)
    (tmp_path / "lora-k4-s1-00000007").mkdir()
    (tmp_path / "lora-k4-s1-00000008").symlink_to(tmp_path / ID)
    (tmp_path / "some notes").mkdir()
    runs, broken = store.scan()
    assert [run.id for run in runs] == [ID]
    assert [b.id for b in broken] == [*bad, "lora-k4-s1-00000007", "lora-k4-s1-00000008"]
    assert all(b.id in b.reason for b in broken)


def test_find(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(InputError, match="lorabench study"):
        store.select(["@last"])[0]
    for name in ("lora-k4-s0-00000000", "lora-k4-s1-00000001", "pretrain-s0-00000002"):
        finished(store, name)
    assert [run.id for run in store.select(["pretrain"])[0]] == ["pretrain-s0-00000002"]
    assert [run.id for run in store.select(["lora-k4-*"])[0]] == ["lora-k4-s0-00000000", "lora-k4-s1-00000001"]
    assert len(store.select(["@last"])[0]) == 1
    with pytest.raises(UsageError, match="fits 2 runs"):
        store.select(["lora"])[0]
    finished(store, "lora-k4-s10-00000003")
    assert [run.id for run in store.select(["lora-k4-s1"])[0]] == ["lora-k4-s1-00000001"]
    assert shortest("lora-k4-s1-00000001", [run.id for run in store.scan()[0]]) == "lora-k4-s1"
    assert shortest("lora-k4-s1-a1000001", ["lora-k4-s1-a1000001", "lora-k4-s1-a2000001"]) == "lora-k4-s1-a1"
    with pytest.raises(InputError, match=r"the nearest are .*lora-k4-s1-00000001"):
        store.select(["lora-k4-s7"])[0]
    with pytest.raises(InputError, match="no run in"):
        store.select(["dora*"])[0]


def test_select_takes_each_run_once_and_names_what_a_glob_cannot_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = ["lora-k4-s0-00000000", "lora-k4-s1-00000001", "pretrain-s0-00000002"]
    for name in names:
        finished(store, name)
    (tmp_path / names[1] / "run.json").write_text("{")
    runs, broken = store.select(["pretrain", "*", names[0]])
    assert [run.id for run in runs] == [names[2], names[0]]
    assert [folder.id for folder in broken] == [names[1]]
    assert store.select([names[0]]) == ([store.load(names[0])], [])
    with pytest.raises(InputError, match="no valid run record"):
        store.select(["*", names[1]])
    with pytest.raises(InputError, match="that can be read; 1 cannot"):
        store.select(["lora-k4-s1*"])[0]


def test_bases_are_found_as_far_as_they_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    base = finished(store, "pretrain-s0-00000002")
    parents = [Parents(base=name) for name in (base.id, "pretrain-s1-00000003", "no id")]
    tuned = [draft(f"lora-k4-s{i}-0000000{i}").model_copy(update={"parents": found}) for i, found in enumerate(parents)]
    assert store.parents(tuned) == {base.id: base}


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "..", "lora-k4-s0-00000000/..", "LORA-s0-00000000", "a\n-s0-00000000"]
)
def test_no_id_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no run id"):
        Store(tmp_path).path(name)


def test_a_run_is_not_written_through_a_symbolic_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    store = Store(tmp_path / "runs")
    store.root.mkdir()
    (store.root / ID).symlink_to(outside)
    with pytest.raises(InputError, match="symbolic link"), store.locked(ID), store.start(draft(), ""):
        pass
    assert (outside / "precious").read_text() == "x"


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    blocked = tmp_path / "runs"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(RunFailedError, match=r"runs.*cannot be written"), Store(blocked).locked(ID):
        pass


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = finished(store)
    (tmp_path / ID / "model.safetensors").write_bytes(b"tensorz")
    with pytest.raises(InputError, match="SHA-256 differs"):
        store.intact(run, "model.safetensors")
    (tmp_path / ID / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no such file"):
        store.intact(run, "model.safetensors")
    assert store.finished(ID) is None, "a run that lacks a file is made again"


def test_predictions_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digits = np.arange(10, dtype=np.uint8)
    with store.locked(ID), store.start(draft(), "") as folder:
        with (tmp_path / "x.npz").open("wb") as file:
            np.savez(file, mnist=digits)
        folder.write("predictions.npz", (tmp_path / "x.npz").read_bytes())
        folder.finish(folder.run)
    assert np.array_equal(store.predictions(folder.run)["mnist"], digits)
    assert store.predictions(draft()) == {}


def test_the_newest_study_is_remembered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.newest_study() is None
    store.remember_study("study", [ID])
    store.remember_study("quick", ["pretrain-s0-00000002"])
    os.utime(tmp_path / ".studies" / "quick.json", (1, 1))  # as a clone or a copy does
    assert [study.name for study in store.studies()[0]] == ["study", "quick"]
    newest = store.newest_study()
    assert newest
    assert (newest.name, newest.runs) == ("quick", ["pretrain-s0-00000002"])
    store.remember_study("quick-tune", [ID], kind="tune", config={"seed": 3})
    assert store.newest_study() == newest
    assert store.study("quick-tune").config == {"seed": 3}
    with pytest.raises(InputError, match=r"no study nothing in .*; there are study, quick, quick-tune"):
        store.study("nothing")
    store.remember_study("quick", ["pretrain-s0-00000002", "../../etc"])
    with pytest.raises(InputError, match="names what is no run"):
        store.newest_study()
    assert store.study("study").runs == [ID]
    with pytest.raises(InputError, match="names what is no run"):
        store.study("quick")
    assert [note.id for note in store.studies()[1]] == ["quick"]


def test_no_note_takes_anothers_place_where_a_capital_is_no_other_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and on Windows: a file that differs in capitals alone is the same file."""
    rename = Path.replace

    def replace(old: Path, new: Path) -> Path:
        for other in new.parent.iterdir():
            if other.name.lower() == new.name.lower() and other != old:
                other.unlink()
        return rename(old, new)

    monkeypatch.setattr(Path, "replace", replace)
    store, runs = (
        Store(tmp_path),
        {name: [f"lora-k4-s{seed}-00000000"] for seed, name in enumerate(["A", "aB", "a", "Ab"])},
    )
    store.remember_study("a", runs["A"])
    (tmp_path / ".studies" / "a.json").rename(tmp_path / ".studies" / "A.json")  # as an earlier lorabench named them
    assert store.study("A").runs == runs["A"]
    for name in ("aB", "a", "Ab"):
        store.remember_study(name, runs[name])
    assert {study.name: study.runs for study in store.studies()[0]} == runs
    store.remember_study("A", runs["a"])
    assert {study.name: study.runs for study in store.studies()[0]} == runs | {"A": runs["a"]}


def test_a_failed_write_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_fails_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    replace = Path.replace

    def no_space(self: Path, target: Path) -> Path:
        if target.name == "model.safetensors":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(RunFailedError, match="No space left"):
        finished(store)
    assert store.load(ID).status == "failed"


def test_equal_inputs_make_equal_ids() -> None:
    assert make_id("a", 0, {"x": 1, "y": 2}) == make_id("a", 0, {"y": 2, "x": 1})
    assert make_id("a", 0, {"x": 1}) != make_id("a", 0, {"x": 2})


def test_a_finished_run_is_put_back_where_its_new_try_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    run = finished(store)
    replace = Path.replace

    def stopped(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), store.locked(ID), store.start(draft(), "") as folder:
        folder.finish(folder.run)
    assert store.finished(ID) == run


def test_a_finished_run_is_replaced_only_by_a_finished_one(tmp_path: Path) -> None:
    """So what was made from it can be read all the while, and it is there after a failure."""
    store = Store(tmp_path)
    run = finished(store)

    def half() -> None:
        with store.locked(ID), store.start(draft(), "") as folder:
            folder.write("model.safetensors", b"half")
            assert store.finished(ID) == run
            assert store.intact(run, "model.safetensors").read_bytes() == b"tensors"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert store.finished(ID) == run
    assert {path.name for path in tmp_path.iterdir()} == {".locks", ID}
    with store.locked(ID), store.start(draft(), "") as folder:
        folder.write("model.safetensors", b"new")
        folder.finish(folder.run)
    assert store.finished(ID) == folder.run
    assert {path.name for path in (tmp_path / ID).iterdir()} == {"config.yaml", "model.safetensors", "run.json"}


def test_a_run_that_was_moved_aside_when_its_process_was_killed_is_put_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = finished(store)
    (tmp_path / f".{ID}.part").mkdir()
    (tmp_path / ID).rename(tmp_path / f".{ID}.part" / "earlier")
    with store.locked(ID):
        assert store.finished(ID) == run
    assert {path.name for path in tmp_path.iterdir()} == {".locks", ID}


def test_a_base_that_is_replaced_while_it_is_read_is_read_again_under_its_lock(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = finished(store)
    locked: list[bool] = []

    def read(read: Run) -> Run:
        other = FileLock(tmp_path / ".locks" / f"{ID}.lock", thread_local=False)
        try:
            other.acquire(timeout=0)
            other.release()
        except TimeoutError:
            locked.append(True)
            return read
        locked.append(False)
        raise InputError("gone")

    assert store.steady(ID, read) == run
    assert locked == [False, True]


def test_who_only_looks_whether_a_run_is_made_keeps_nobody_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabench.runs.store.GLANCE", 60)
    store = Store(tmp_path)
    with store.locked(ID):
        pass
    lock = FileLock(tmp_path / ".locks" / f"{ID}.lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.05, lock.release).start()
    with store.locked(ID, wait=False):
        pass


def test_a_study_that_is_the_newest_is_not_noted_again(tmp_path: Path) -> None:
    """So a finished one can be shown where nothing can be written."""
    store = Store(tmp_path)
    store.remember_study("study", [ID])
    before = (tmp_path / ".studies" / "study.json").stat()
    store.remember_study("study", [ID])
    after = (tmp_path / ".studies" / "study.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_runs_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match="is no folder"):
        Store(tmp_path / "runs").scan()


@pytest.mark.parametrize("enabled", [True, False])
def test_reading_runs_leaves_the_callers_garbage_collector_as_it_was(tmp_path: Path, enabled: bool) -> None:
    store = Store(tmp_path)
    finished(store)
    (tmp_path / "lora-k4-s1-00000000").mkdir()
    state = (gc.isenabled(), gc.get_freeze_count(), gc.get_threshold())
    try:
        (gc.enable if enabled else gc.disable)()
        runs, broken = store.scan()
        assert (len(runs), len(broken)) == (1, 1)
        assert (gc.isenabled(), gc.get_threshold()) == (enabled, state[2])
        assert gc.get_freeze_count() <= state[1], "of what another test froze some may have died"
    finally:
        (gc.enable if state[0] else gc.disable)()


def test_a_file_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    run = finished(store)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        store.intact(run, "model.safetensors")
