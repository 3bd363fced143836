"""Runs folders and files made by other hands: whatever is in them is refused in one clear line, and nothing is lost."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import commands
from report_factory import finetune, fmnist, pretrain

from lorabench import checkpoint, config, npz
from lorabench.data.idx import read_idx
from lorabench.errors import ConfigError, InputError
from lorabench.model import SimpleMnistClassifier
from lorabench.report.writers import sheet
from lorabench.runner.measure import load_model
from lorabench.runs import MAX_FILE_BYTES, Run, Store, write_atomic

GIGABYTES = 10 * 2**30


def kept(store: Store, run: Run, contents: dict[str, bytes] | None = None, /, **changes: Any) -> Run:
    """A run on disk whose record says what `changes` say, and whose files have the right checksums."""
    place = store.root / run.id
    place.mkdir(parents=True, exist_ok=True)
    for name, content in (contents or {}).items():
        (place / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in (contents or {}).items()}
    record = json.loads(run.model_dump_json(by_alias=True)) | {"files": sums} | changes
    (place / "run.json").write_text(json.dumps(record))
    return run.model_copy(update={"files": sums})


def packed(header: bytes, body: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body)
    return stream.getvalue()


def header(shape: str, descr: str = "|u1") -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


MEASURED = finetune().metrics["mnist"].model_dump()
FLIPPED = finetune().metrics["fmnist"].model_dump()
PART = FLIPPED["slices"]["rest"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "../../etc"}, "describes the run '../../etc'"),
        ({"id": "x" * 500_000}, "describes the run"),
        ({"parents": {"base": "../../etc/passwd"}}, "a parent has no run's id"),
        ({"parents": {"base": "/etc"}}, "a parent has no run's id"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "files"),
        ({"files": {"/etc/passwd": "0" * 64}}, "files"),
        ({"files": {"a\0b": "0" * 64}}, "terminal"),
        ({"files": {"a" * 5_000: "0" * 64}}, "files"),
        ({"files": {"model.safetensors": "no checksum"}}, "files"),
        ({"seed": 10**400}, "seed"),
        ({"k": -1}, "k"),
        ({"k": 2**70}, "k"),
        ({"started": "yesterday"}, "started"),
        ({"started": 5}, "started"),
        ({"error": {"type": "X", "message": "\x1b[2J\x1b]0;gone\x07"}}, "steer a terminal"),
        ({"study": "\x9b2J"}, "steer a terminal"),
        ({"checks": {"delta_w": {"fc1": {"frobenius": "big"}}}}, "delta_w"),
        ({"checks": {"max_logit_change_at_birth": math.nan}}, "max_logit"),
        ({"settings": {"lr": [1]}}, "lr"),
        ({"settings": {"other": 10**400}}, "too large"),
        ({"checks": {"other": [math.nan]}}, "too large"),
        ({"env": {"a": {"b": math.inf}}}, "too large"),
        ({"settings": {f"x{number}": number for number in range(500)}}, "more than 500"),
        ({"settings": {"lr": "1e-3"}}, "lr"),
        ({"settings": {"epochs": [1]}}, "epochs"),
        ({"settings": {"batch_size": [1]}}, "batch_size"),
        ({"params": {"total": 0, "trainable": 0, "frozen": 0}}, "params"),
        ({"metrics": {"other": finetune().metrics["mnist"].model_dump()}}, "metrics"),
        ({"metrics": {"mnist": finetune().metrics["mnist"].model_dump() | {"loss": 1e308}}}, "loss"),
        ({"metrics": {"mnist": MEASURED | {"accuracy": 0.9779}}}, "accuracy"),
        ({"metrics": {"mnist": MEASURED | {"correct": 9_779}}}, "confusion"),
        ({"metrics": {"mnist": MEASURED | {"n": 9_999}}}, "confusion"),
        ({"metrics": {"mnist": MEASURED | {"confusion": [[0] * 10] * 10}}}, "confusion"),
        ({"metrics": {"mnist": MEASURED | {"confusion": [[-1] + [0] * 9] * 10}}}, "confusion"),
        ({"metrics": {"fmnist": FLIPPED | {"slices": {"rest": PART}}}}, "slices"),
        ({"metrics": {"fmnist": FLIPPED | {"slices": {"rest": PART | {"accuracy": 0.5}}}}}, "accuracy"),
        ({"metrics": {"fmnist": FLIPPED | {"slices": {"rest": PART | {"accuracy": None}}}}}, "accuracy"),
        ({"before": {"mnist": MEASURED | {"accuracy": 0.9779}}}, "before"),
        ({"status": "finished"}, "status"),
        ({"metrics": {"mnist": {"n": 0}}}, "metrics.mnist"),
        ({"metrics": []}, "metrics"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_record_of_another_hand_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    store, run = Store(tmp_path), finetune()
    kept(store, run, **changes)
    with pytest.raises(InputError) as caught:
        store.load(run.id)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    assert store.finished(run.id) is None
    runs, broken = store.scan()
    assert (runs, [folder.id for folder in broken]) == ([], [run.id])


@pytest.mark.parametrize(
    "content",
    [b"[" * 400_000 + b"]" * 400_000, b'{"checks": ' + b"[" * 100_000, b"{}", b"null", b"\0", b"9" * 900_000],
    ids=lambda content: str(content[:12]),
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    run = kept(Store(tmp_path), finetune())
    (tmp_path / run.id / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=f"{run.id}.*no valid run record"):
        Store(tmp_path).load(run.id)


def test_a_record_without_what_a_report_needs_is_no_record_of_fmnist(tmp_path: Path) -> None:
    store, run = Store(tmp_path), fmnist()
    wrong: list[dict[str, Any]] = [{"settings": {}}, {"checks": {"train": {}}}, {"settings": {}, "checks": {}}]
    wrong += [{"settings": run.settings | {"classes": classes}} for classes in ([2, 77], [])]
    for changes in wrong:
        kept(store, run, **changes)
        with pytest.raises(InputError, match="no valid run record"):
            store.load(run.id)


@pytest.mark.parametrize("what", ["folder", "run.json", "predictions.npz"])
def test_no_symbolic_link_is_followed(tmp_path: Path, what: str) -> None:
    store = Store(tmp_path / "runs")
    run = kept(store, finetune(), {"predictions.npz": packed(header("(3,)"), b"\1\2\3")})
    assert store.predictions(run)["labels"].tolist() == [1, 2, 3]
    inside = store.root / run.id if what == "folder" else store.root / run.id / what
    inside.rename(tmp_path / "outside")
    inside.symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="symbolic link"):
        store.predictions(store.load(run.id))


def test_a_link_where_a_file_is_prepared_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    (tmp_path / ".file.part").symlink_to(precious)
    write_atomic(tmp_path / "file", b"new")
    assert (precious.read_text(), (tmp_path / "file").read_bytes()) == ("x", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "precious"]


@pytest.mark.parametrize(
    "content",
    [
        packed(header(f"({GIGABYTES},)"), b"\0" * 100),
        packed(b"{'descr': '|u1', 'shape': (3,\n", b"\1\2\3"),
        packed(header("(70000,)"), b"\0" * 70_000),
        packed(header("(20000000,)"), b"\0" * 20_000_000),
        packed(header("(3, 1)"), b"\0" * 3),
        packed(header("(0,)"), b""),
        packed(header("(-3,)"), b"\0" * 3),
        packed(header("(3,)", "|O"), b"\0" * 3),
        packed(header("(3,)", "<f8"), b"\0" * 24),
        packed(header("(3,)"), b"\0\0\x0a"),
        packed(header("(3,)"), b"\0\0\1", zipfile.ZIP_LZMA),
        packed(b"(" * 10_000, b""),
        packed(b"__import__('os').abort()", b""),
        packed(header("(3,)"), b"\0\0\1")[:-30],
        b"PK\3\4",
        b"",
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_predictions_that_claim_anything_else_are_refused(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    run = kept(store, finetune(), {"predictions.npz": content})
    with pytest.raises(InputError, match=r"predictions\.npz"):
        store.predictions(run)


def test_too_many_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, allow_pickle=False, **{f"a{i}": np.zeros(1, np.uint8) for i in range(17)})
    with pytest.raises(InputError, match="17 arrays"):
        npz.read(path, np.uint8)


def test_a_file_larger_than_any_run_writes_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = kept(store, finetune(), {"model.safetensors": b""})
    os.truncate(tmp_path / run.id / "model.safetensors", MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match="larger than"):
        store.intact(run, "model.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        (2**60).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little"),
        (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
        (2).to_bytes(8, "little") + b"{}",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        b"",
    ],
    ids=lambda content: f"{content[:12]}",
)
def test_a_checkpoint_that_claims_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    run = kept(store, pretrain(), {"model.safetensors": content})
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_model(run, store)


def test_a_run_that_is_its_own_base_has_no_model(tmp_path: Path) -> None:
    store, run = Store(tmp_path), finetune()
    kept(store, run, parents={"base": run.id, "data": None}, settings=SETTINGS)
    with pytest.raises(InputError, match="is no base"):
        load_model(store.load(run.id), store)


SETTINGS = json.loads(config.Config().finetune.model_dump_json()) | {"seed": 0, "k": 4, "init": "talk", "alpha": None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "os.system"}, "no method is called"),
        ({"method": {}}, "no method is called"),
        ({"k": 10**12}, "less than or equal to 4096"),
        ({"targets": ["fc1", "../x"]}, "targets"),
        ({"seed": -1}, "seed"),
        ({"nonsense.deep": 1}, "unknown key"),
    ],
)
def test_settings_that_no_run_has_make_no_model(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    store, run = Store(tmp_path), finetune()
    kept(store, pretrain(), {"model.safetensors": whole()})
    kept(store, run, {"adapter.safetensors": b""}, settings=SETTINGS | changes)
    with pytest.raises(InputError, match=said):
        load_model(store.load(run.id), store)


@pytest.mark.parametrize("lacking", ["method", "targets", "seed", "k"])
def test_settings_that_are_not_there_make_no_model(tmp_path: Path, lacking: str) -> None:
    store, run = Store(tmp_path), finetune()
    kept(store, run, settings={key: value for key, value in SETTINGS.items() if key != lacking})
    with pytest.raises(InputError, match=lacking):
        load_model(store.load(run.id), store)


def whole() -> bytes:
    return checkpoint.encode(checkpoint.trained(SimpleMnistClassifier()), {})


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"epoch": "x"}', b"\xff\n", b"[" * 200_000])
def test_a_damaged_history_is_refused(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    run = kept(store, finetune(), {"history.jsonl": content})
    with pytest.raises(InputError, match=r"history\.jsonl: no history"):
        store.history(run)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"runs": 5}', b'{"runs": [5]}', b"[" * 200_000, b"\xff", b" " * 1_000_001]
)
def test_a_damaged_note_of_a_study_or_a_bench_is_refused(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    (tmp_path / ".studies").mkdir()
    (tmp_path / ".studies" / "a\nb.json").write_bytes(content)
    (tmp_path / ".bench.json").write_bytes(content)
    with pytest.raises(InputError, match="no valid record of a study"):
        store.newest_study()
    with pytest.raises(InputError, match="no valid record of a bench"):
        store.newest_bench()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_note_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / ".studies").mkdir()
    if kind == "link":
        (tmp_path / ".studies" / "x.json").symlink_to(tmp_path / "nothing")
    else:
        os.mkfifo(tmp_path / ".studies" / "x.json")
    with pytest.raises(InputError, match="no valid record of a study"):
        Store(tmp_path).newest_study()


def test_commands_withstand_what_other_hands_have_made() -> None:
    """Forks of a process of its own: this one has threads."""
    script = Path(commands.__file__)
    done = subprocess.run([sys.executable, script, "--inputs", "25"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "25 commands (" in done.stdout


def test_no_more_is_read_than_a_run_can_have(tmp_path: Path) -> None:
    """What claims or holds more is refused by its size, before anything is made of it."""
    store = Store(tmp_path)
    run = kept(store, finetune(), {"history.jsonl": b"\n" * 5_000_001})
    with pytest.raises(InputError, match="5,000,001 bytes"):
        store.history(run)
    images = tmp_path / "a-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(bytes((0, 0, 8, 3)) + b"\xff" * 12 + bytes(1_000)))
    with pytest.raises(InputError, match=r"expected at most 47,040,000 elements"):
        read_idx(images)
    head = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(2_000)}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(InputError, match="a header of"):
        checkpoint.decode(tmp_path / "x.safetensors", {}, {})


def test_a_spreadsheet_takes_no_word_of_a_run_for_a_formula() -> None:
    run = finetune().model_copy(update={"study": "=cmd|' /C calc'!A0", "settings": {"lr": -1.0}})
    values = sheet.fields(run)
    assert (values["study"], values["settings.lr"]) == ("'=cmd|' /C calc'!A0", -1.0)


def test_notes_are_neither_read_nor_written_through_a_symbolic_link(tmp_path: Path) -> None:
    store, elsewhere = Store(tmp_path / "runs"), tmp_path / "elsewhere"
    store.root.mkdir()
    elsewhere.mkdir()
    (store.root / ".studies").symlink_to(elsewhere)
    with pytest.raises(InputError, match="symbolic link"):
        store.remember_study("study", ["pretrain-s0-00000001"])
    with pytest.raises(InputError, match="symbolic link"):
        store.newest_study()
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("link", [".locks", ".locks/lora-k4-s0-00000000.lock", ".locks/notes.lock"])
def test_no_lock_is_taken_through_a_symbolic_link(tmp_path: Path, link: str) -> None:
    """What is locked is emptied first."""
    store, precious = Store(tmp_path / "runs"), tmp_path / "elsewhere" / "lora-k4-s0-00000000.lock"
    draft = Run(schema=1, id="lora-k4-s0-00000000", stage="finetune", seed=0)
    for place in (precious.parent, store.root / ".locks", store.root / draft.id):
        place.mkdir(parents=True)
    for path in (precious, precious.with_name("notes.lock")):
        path.write_text("x")
    (store.root / draft.id / "run.json").write_text(draft.model_dump_json(by_alias=True))
    place = store.root / link
    if link == ".locks":
        place.rmdir()
    place.symlink_to(precious.parent if link == ".locks" else precious.parent / place.name)
    refused = 0
    for call in (
        lambda: store.locked(draft.id).__enter__(),
        lambda: store.remember_bench({}),
        lambda: store.load(draft.id),
    ):
        with contextlib.suppress(InputError):
            call()
            continue
        refused += 1
    assert refused
    assert {path.read_text() for path in precious.parent.iterdir()} == {"x"}


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "lpt9.more"])
def test_a_study_is_not_called_as_a_device_is_on_windows(name: str) -> None:
    for key in ("study", "sweep"):
        with pytest.raises(ConfigError, match="a device on Windows"):
            config.load(sets=[f"{key}.name={name}"])
    assert config.load(sets=["study.name=console"]).config.study.name == "console"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nb: *a\n",
        "a: &a [*a]\n",
        "&a a: &a 1\n<<: *a\n",
        "study: {seeds: 0-9999999999}\n",
        "seed: " + "9" * 500_000,
        "seed: 1e999\n",
        "seed: !!python/object/apply:os.abort []\n",
        "[" * 100_000,
        "finetune: {method: {a: b}}\n",
        "finetune: {method: [lora]}\n",
        "? [a]\n: 1\n",
        'finetune: {"\\ud800": 1}\n',
        "seed: 1\0\n",
        "x: " * 10_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_config_of_another_hand_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load([path])
    assert all(len(problem) < 1_000 for problem in caught.value.problems)


def test_what_was_refused_when_it_is_read_is_never_written(tmp_path: Path) -> None:
    """A failure's message may quote anything; the record of it is read again all the same."""
    store = Store(tmp_path)
    draft = Run(schema=1, id="lora-k4-s0-00000000", stage="finetune", seed=0)
    with pytest.raises(ValueError, match="gone"), store.locked(draft.id), store.start(draft, ""):
        raise ValueError("\x1b[2Jgone\0 \ud800 é\n\\u001b")
    failure = store.load(draft.id).error
    assert failure
    assert failure.message == "�[2Jgone� � é\n\\u001b"
