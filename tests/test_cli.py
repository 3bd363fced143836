"""The commands as a user types them, on real MNIST: what they print, what they leave, how they fail."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import toy
import toy_shift
from benchmarks import kill
from command_line import PATIENCE, QUICK, SHORT, CommandLine
from report_factory import squeezed
from safetensors.numpy import load

from lorabench import data, methods
from lorabench.data import shifts
from lorabench.data.ways import import_datasets
from lorabench.runs import Store


@pytest.fixture
def cli(tmp_path: Path, data_dir: Path) -> CommandLine:
    return CommandLine(tmp_path / "runs", data_dir)


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> CommandLine:
    """A study of two seeds, an epoch each: made once, read by many tests."""
    cli = CommandLine(tmp_path_factory.mktemp("study") / "runs", data_dir)
    cli.run("study", "--seeds", "0-1", *SHORT, "-s", "study.workers=1", "-q")
    return cli


@pytest.fixture
def copied(small_study: CommandLine, tmp_path: Path, data_dir: Path) -> CommandLine:
    """The small study in a folder of the test's own."""
    shutil.copytree(small_study.runs, tmp_path / "runs")
    return CommandLine(tmp_path / "runs", data_dir)


@pytest.mark.slow
def test_the_talks_numbers(cli: CommandLine) -> None:
    """The default study, of three seeds; its own `expect:` would make it exit with 6."""
    config = str(Path(__file__).parent.parent / "configs" / "study.yaml")
    arguments = ["study", "-c", config, "--seeds", "0-2", "-s", "study.workers=1", "--threads", "1"]
    text = cli.run(*arguments, "-q").stdout
    for figure in ("235,146", "6,248", "1,787 + 1,839", "310 + 303", "2.66%", "reproduced", "3 seeds: 0-2"):
        assert figure in text, figure
    document = cli.json(*arguments)
    rows = {row["key"]: row for row in document["ledger"]}
    assert rows["mnist.base"]["value"] >= 97.5  # three seeds: a tenth of a point more or less on another processor
    assert 92.0 < rows["fmnist.base"]["value"] < 94.0
    assert rows["fmnist.tuned"]["value"] >= 97.5
    assert {key: rows[key]["n"] for key in ("mnist.base", "fmnist.base", "fmnist.tuned")} == dict.fromkeys(
        ("mnist.base", "fmnist.base", "fmnist.tuned"), 3
    )
    assert document["unmet"] == []


def test_a_study_leaves_records_as_designed(small_study: CommandLine) -> None:
    records = small_study.records()
    assert sorted(r["stage"] for r in records.values()) == ["finetune", "finetune", "fmnist", "pretrain", "pretrain"]
    tuned = records[small_study.only("lora-k4-s1")]
    assert tuned["schema"] == 1
    assert (tuned["status"], tuned["method"], tuned["k"], tuned["seed"], tuned["study"]) == (
        "done",
        "lora",
        4,
        1,
        "study",
    )
    assert tuned["params"] == {"total": 241_394, "trainable": 6_248, "frozen": 235_146}
    assert tuned["parents"] == {"base": small_study.only("pretrain-s1"), "data": small_study.only("fmnist-s0")}
    assert 24_992 < tuned["checkpoint_bytes"] < 26_000
    assert set(tuned["files"]) == {"config.yaml", "history.jsonl", "adapter.safetensors", "predictions.npz"}
    assert tuned["metrics"]["fmnist"]["slices"]["flipped"]["n"] == 613
    assert tuned["metrics"]["fmnist"]["slices"]["upright"]["n"] == 2042 - 613
    assert sum(map(sum, tuned["metrics"]["mnist"]["confusion"])) == 10_000
    assert tuned["before"]["fmnist"]["correct"] == records[tuned["parents"]["base"]]["metrics"]["fmnist"]["correct"]
    assert tuned["cost"]["steps"] == 60_000 // 256
    before, peak = tuned["cost"]["rss_before_bytes"], tuned["cost"]["peak_rss_bytes"]
    # What training took by itself: 61 MB are fc1's outputs for all images, kept. A system may not tell.
    assert (before is None and peak is None) or peak - before > 60 * 10**6
    assert tuned["checks"]["max_logit_change_at_birth"] == 0
    assert {"lorabench", "python", "torch", "platform", "device", "threads", "git", "packages"} <= set(tuned["env"])
    predicted = small_study.predictions(tuned["id"])
    assert int((predicted["fmnist"] == predicted["labels"]).sum()) == tuned["metrics"]["fmnist"]["correct"]
    history = (small_study.runs / tuned["id"] / "history.jsonl").read_text().splitlines()
    assert [sorted(json.loads(line)) for line in history] == [["accuracy", "epoch", "loss", "lr", "seconds"]]
    census = records[small_study.only("fmnist-s0")]["checks"]
    assert [census["train"]["flipped"][d] for d in (2, 3)] == [1787, 1839]
    assert [census["test"]["flipped"][d] for d in (2, 3)] == [310, 303]


def test_a_second_study_trains_nothing(small_study: CommandLine) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_study.runs.glob("*-s*/*")}
    done = small_study.run("study", "--seeds", "0-1", *SHORT)
    assert "epoch" not in done.stderr
    assert done.stderr.count("there already") == 5
    assert {path: path.stat().st_mtime_ns for path in small_study.runs.glob("*-s*/*")} == before


def test_a_run_repeats_bit_for_bit_from_its_own_config(
    small_study: CommandLine, tmp_path: Path, data_dir: Path
) -> None:
    run_id = small_study.only("lora-k4-s1")
    again = CommandLine(tmp_path / "again", data_dir)
    again.run("finetune-lora", "-c", str(small_study.runs / run_id / "config.yaml"), "-q")
    old, new = small_study.predictions(run_id), again.predictions(run_id)
    assert set(old) == set(new)
    assert all(np.array_equal(old[name], new[name]) for name in old)
    first, second = (load((place.runs / run_id / "adapter.safetensors").read_bytes()) for place in (small_study, again))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert first.keys() == second.keys()


@pytest.mark.parametrize("seed", ["pretrain.seed", "finetune.seed", "fmnist.seed"])
def test_every_seed_matters(copied: CommandLine, seed: str) -> None:
    first = copied.predictions(copied.only("lora-k4-s0"))
    found = copied.json("finetune-lora", *SHORT, "-s", f"{seed}=7")
    second = copied.predictions(found["id"])
    assert not np.array_equal(first["fmnist"], second["fmnist"])


def test_frozen_work_done_every_time_gives_the_same(copied: CommandLine) -> None:
    first = copied.predictions(copied.only("lora-k4-s0"))
    second = copied.predictions(copied.json("finetune-lora", *SHORT, "-s", "reuse=false")["id"])
    # Sums in another order: training amplifies the last bits of float32 a little.
    assert np.mean(first["fmnist"] == second["fmnist"]) > 0.995


@pytest.mark.usefixtures("few_images")
def test_finetune_lora_on_an_empty_folder_makes_what_it_needs(cli: CommandLine) -> None:
    done = cli.run("finetune-lora", "--k", "12", *SHORT)
    assert "needs fmnist-s0" in done.stderr
    assert "making them first" in done.stderr
    assert "k = 12 is above 10" in done.stderr
    assert "trains 18,744 of 253,890 parameters" in done.stdout
    assert f"next  lorabench report {cli.only('lora-k12-s0')}" in done.stdout
    assert len(cli.records()) == 3


def test_dry_run_makes_nothing_and_says_who_set_what(cli: CommandLine) -> None:
    text = cli.run("study", "--seeds", "0-1", "--k", "8", "--dry-run").stdout
    assert "would run 5, cached 0" in text
    assert "finetune.k set by --k" in text
    assert not cli.runs.exists()


def test_ls_shows_everything(copied: CommandLine) -> None:
    ids = copied.records()
    (copied.runs / "lora-k4-s5-00000005").mkdir()
    (copied.runs / "lora-k4-s5-00000005" / "run.json").write_text('{"schema": 1')
    text = copied.run("ls").stdout
    assert all(run_id in text for run_id in ids)
    assert "lora-k4-s5-00000005  cannot be read" in text
    listed = copied.json("ls")
    assert len(listed["runs"]) == 5
    assert len(listed["broken"]) == 1


def test_evaluate_lists_and_draws_the_mistakes(small_study: CommandLine) -> None:
    name = small_study.only("lora-k4-s0")
    found = small_study.json("evaluate", name, "--show-errors", "1")["runs"][0]
    metrics, wrong = found["metrics"]["fmnist"], found["errors"]
    assert len(wrong) == metrics["n"] - metrics["correct"]
    flipped = metrics["slices"]["flipped"]
    assert sum(m["flipped"] for m in wrong) == flipped["n"] - flipped["correct"]
    kept = small_study.predictions(name)
    assert all(kept["fmnist"][m["index"]] == m["predicted"] and kept["labels"][m["index"]] == m["true"] for m in wrong)
    assert [m["confidence"] for m in wrong] == sorted((m["confidence"] for m in wrong), reverse=True)
    text = small_study.run("evaluate", name, small_study.only("pretrain-s0"), "--show-errors", "2").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert f"#{wrong[0]['index']}" in text
    assert text.count("F-MNIST test images wrong") == 2


def test_report_of_a_study_a_run_and_two(small_study: CommandLine) -> None:
    study = small_study.run("report").stdout
    assert "2 seeds: 0-1" in study
    base, tuned = small_study.only("pretrain-s0"), small_study.only("lora-k4-s0")
    one = small_study.run("report", tuned).stdout
    assert "confusion on F-MNIST" in one
    two = small_study.run("report", base, tuned).stdout
    assert "McNemar" in two
    document, _, following = study.rpartition("\nnext  ")  # which is one line however long, so that it can be pasted
    assert following == "lorabench report --out report.html\n"
    assert all(len(line) <= 80 for text in (document, one, two) for line in text.splitlines()[:-1])
    found = small_study.json("report", base, tuned)["accuracy"]
    assert [row["name"] for row in found] == ["mnist", "fmnist", "fmnist.flipped", "fmnist.upright", "fmnist.rest"]
    assert all(row["unpaired"] is None for row in found)
    assert sum(row["gained"] for row in found[2:]) == found[1]["gained"]


def test_evaluate_measures_what_the_run_recorded(small_study: CommandLine) -> None:
    records = small_study.records()
    base, tuned = small_study.only("pretrain-s0"), small_study.only("lora-k4-s0")
    measured = small_study.json("evaluate", base, tuned, "--threads", "1")["runs"]
    for found in measured:
        for name in ("mnist", "fmnist"):
            assert found["metrics"][name]["confusion"] == records[found["id"]]["metrics"][name]["confusion"]
    text = small_study.run("evaluate", tuned).stdout
    for needed in ("MNIST", "F-MNIST", "not mirrored", "other digits", "recall", "loss in nats"):
        assert needed in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_make_fmnist_draws_and_writes_what_torchvision_reads(cli: CommandLine, tmp_path: Path) -> None:
    text = cli.run("make-fmnist", "--write-idx", str(tmp_path / "idx")).stdout
    for needed in ("original", "mirrored", "1,787", "1,839", "310", "303", "next  lorabench finetune-lora"):
        assert needed in text, needed
    assert "█" in text
    old, torchvision = data.load(Path(cli.env["LORABENCH_DATA"])), import_datasets().MNIST
    new = torchvision(str(tmp_path / "idx"), train=False)
    mask = data.read_idx(tmp_path / "idx" / "MNIST" / "raw" / "t10k-flips-idx1-ubyte").astype(bool)
    images = new.data.numpy()
    assert mask.sum() == 613
    assert set(old.test_labels[mask]) == {2, 3}
    assert (images[~mask] == old.test_images[~mask]).all()
    assert (images[mask] == old.test_images[mask][:, :, ::-1]).all()
    assert (new.targets.numpy() == old.test_labels).all()
    assert len(torchvision(str(tmp_path / "idx"), train=True)) == 60_000


def test_fmnist_options(cli: CommandLine, tmp_path: Path) -> None:
    found = cli.json("make-fmnist", "--fraction", "0.5", "--classes", "7", "--axis", "vertical", "--seed", "3")
    assert [(row["split"], row["digit"], row["flipped"]) for row in found["census"]] == [
        ("train", 7, 3132),
        ("test", 7, 514),
    ]
    holder = tmp_path / "holder"
    (holder / "MNIST" / "raw").mkdir(parents=True)
    (holder / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"the user's MNIST")
    assert "holds MNIST itself" in cli.fails(4, "make-fmnist", "--write-idx", str(holder))


def test_what_bench_measured_is_shown_where_it_cannot_be_noted(cli: CommandLine, tmp_path: Path) -> None:
    other = CommandLine(tmp_path / "runs", Path(cli.env["LORABENCH_DATA"]))
    (other.runs / ".bench.json").mkdir(parents=True)
    done = other.run("bench", "lora", "--ranks", "1", "--rounds", "1", "--steps", "2", code=5)
    assert "lora k=1" in done.stdout
    assert "cannot be written" in done.stderr


def test_a_gate_that_does_not_hold(small_study: CommandLine) -> None:
    arguments = ["study", "--seeds", "0-1", *SHORT, "-s", "expect.params.trainable=6247"]
    text = small_study.run(*arguments, code=3).stderr
    assert "expect.params" in text
    config = small_study.runs.parent / "gate.yaml"
    config.write_text("expect: {params.trainable: 6247, mnist.base: {value: 50%, tolerance: 1}}\n")
    done = small_study.run("study", "--seeds", "0-1", *SHORT, "-c", str(config), code=6)
    assert "params.trainable  expected 6,247, got 6,248" in done.stderr
    assert "mnist.base  expected 50% within 1 point," in done.stderr


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (3, ["finetune-lora", "--k", "0"], "--k  finetune.k  input should be greater than or equal to 1; got 0"),
        (3, ["finetune", "lorra"], 'the command  finetune.method  no method is called "lorra"; did you mean "lora"?'),
        (3, ["finetune-lora", "-s", "finetune.epocs=2"], 'unknown key; did you mean "epochs"?'),
        (3, ["make-fmnist", "--fraction", "1.5"], "fmnist.fraction"),
        (3, ["make-fmnist", "--classes", "2,11"], "fmnist.classes[1]"),
        (3, ["study", "--seeds", "4-0"], "did you mean 0-4?"),
        (3, ["finetune-lora", "--targets", "fc1,fc9"], "finetune.targets[1]  input should be 'fc1', 'fc2' or 'fc3'"),
        (3, ["study", "-s", "expect.nonsense=1"], "expect.nonsense  unknown key; known keys:"),
        (3, ["pretrain", "-s", "expect.nonsense=1"], "expect.nonsense  unknown key; known keys:"),
        (3, ["sweep", "--grid", "k=1", "-s", "expect.nonsense=1"], "expect.nonsense  unknown key; known keys:"),
        (4, ["study", "-c", "none.yaml"], "none.yaml: cannot be read"),
        (4, ["report"], "there is no study in"),
        (4, ["report", "lora-k4-s9"], "no run lora-k4-s9"),
        (4, ["pretrain", "--device", "cuda", "-s", "pretrain.epochs=1"], "device cuda"),
        (2, ["finetune"], "'METHOD'. `lorabench finetune --help` says what it may be."),
        (2, ["pretrain", "--nonsense"], "--nonsense"),
        (2, ["pretrain", "--seed", "x"], "--seed"),
    ],
)
def test_bad_input_is_one_clear_line(cli: CommandLine, code: int, arguments: Sequence[str], message: str) -> None:
    assert message in cli.fails(code, *arguments)


def test_config_errors_come_before_torch(cli: CommandLine) -> None:
    script = (
        "import sys; from lorabench.cli import main\n"
        "sys.argv = ['lorabench', 'study', '--k', '0']\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 3\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], env=cli.env, check=True, capture_output=True)


@pytest.mark.usefixtures("few_images")
def test_a_loss_that_runs_away_leaves_a_failed_run(cli: CommandLine) -> None:
    message = cli.fails(5, "pretrain", "-s", "pretrain.lr=1e6", "--threads", "1")
    assert "the loss became" in message
    assert "lr = 1e+06 too large" in message
    failed = cli.records()[cli.only("pretrain-s0")]
    assert (failed["status"], failed["error"]["type"]) == ("failed", "RunFailedError")
    assert "failed" in cli.run("ls").stdout


def test_a_loss_that_runs_away_in_the_last_step_is_a_failure_too(cli: CommandLine) -> None:
    arguments = ["pretrain.lr=1e14", "pretrain.warmup=0", "pretrain.epochs=1", "holdout=50000"]
    arguments += ["pretrain.batch_size=10000"]
    message = cli.fails(5, "study", "--seed", "3", *(f"--set={text}" for text in arguments))
    assert re.search(r"^pretrain-s3-\w{12}: the loss on mnist became", message), message


def test_who_reads_no_further_is_no_error(small_study: CommandLine) -> None:
    """The pipe is closed before the first line comes."""
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["ls"], ["scale"], ["ls", "--json"]):
        done = subprocess.run(
            small_study.command(*arguments), env=small_study.env, stdout=writer, stderr=subprocess.PIPE, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), arguments
    os.close(writer)


def test_a_run_may_be_named_by_its_path(small_study: CommandLine) -> None:
    run_id = small_study.only("lora-k4-s0")
    assert small_study.json("report", f"{small_study.runs}/{run_id}/") == small_study.json("report", run_id)


def test_what_is_quoted_steers_no_terminal(cli: CommandLine) -> None:
    assert "\x1b" not in cli.run("report", "\x1b[2J", code=4).stderr


def test_the_next_command_goes_on_from_this_run(copied: CommandLine) -> None:
    def following(*arguments: str) -> str:
        return copied.json(*arguments)["next"]

    short = ["pretrain", *SHORT]
    run_id = copied.only("pretrain-s1")
    assert following(*short, "--seed", "1") == f"lorabench finetune-lora --k 4 -c {copied.runs / run_id}/config.yaml"
    assert following("make-fmnist") == "lorabench finetune-lora --k 4"


def test_a_seed_is_a_study_of_one_seed(copied: CommandLine) -> None:
    plan = copied.json("study", "--seed", "1", *SHORT, "--dry-run")
    assert {run_id for run_id in plan["stages"] if "-s0-" not in run_id} == {
        copied.only("pretrain-s1"),
        copied.only("lora-k4-s1"),
    }
    assert "not both" in copied.fails(2, "study", "--seed", "1", "--seeds", "0-1")


def test_a_repair_that_made_it_worse_is_said(copied: CommandLine) -> None:
    done = copied.run("finetune-lora", *SHORT, "-s", "finetune.lr=0.3", "-s", "finetune.batch_size=20000")
    assert "it has repaired nothing; is lr too large?" in done.stderr


def test_debug_shows_the_traceback(cli: CommandLine) -> None:
    cli.run("report", "--debug", code=4)


def test_an_adapter_on_another_base_is_refused(copied: CommandLine) -> None:
    record = copied.runs / copied.only("lora-k4-s0") / "run.json"
    record.write_text(record.read_text().replace(copied.only("pretrain-s0"), copied.only("pretrain-s1")))
    assert "refused on base pretrain-s1" in copied.fails(4, "evaluate", copied.only("lora-k4-s0"))


def test_an_edited_checkpoint_is_refused(copied: CommandLine) -> None:
    path = copied.runs / copied.only("pretrain-s0") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x00")
    assert "SHA-256 differs" in copied.fails(4, "evaluate", copied.only("lora-k4-s0"))


def test_a_run_without_a_model_cannot_be_evaluated(copied: CommandLine) -> None:
    assert "holds no model" in copied.fails(4, "evaluate", copied.only("fmnist-s0"))


def test_a_runs_folder_that_cannot_be_written(cli: CommandLine) -> None:
    cli.runs.write_text("a file where the folder should be")
    assert "cannot be written" in cli.fails(5, "pretrain", *SHORT)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
@pytest.mark.usefixtures("few_images")
def test_an_interrupted_study_says_so_and_goes_on(cli: CommandLine, workers: str) -> None:
    """Twice in one folder, by Ctrl-C and by SIGTERM, before it is let come to its end, in this process."""
    arguments = ["study", "--seeds", "0-1", *QUICK, "-s", "pretrain.epochs=5", "-s", f"study.workers={workers}"]
    for sent, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        mark = uuid.uuid4().hex
        study = cli.start(*arguments, **{kill.MARK: mark})
        study.line(": epoch 1/5")
        study.process.send_signal(sent)
        said = study.end()
        assert study.process.returncode == code, said
        assert "Traceback" not in said
        deadline = time.monotonic() + PATIENCE
        while orphans := kill.living(f"{kill.MARK}={mark}".encode()):
            assert time.monotonic() < deadline, orphans
            time.sleep(0.05)
        if workers == "1":  # one of several, if it is slow, is killed before it has recorded that
            bases = [record for record in cli.records().values() if record["stage"] == "pretrain"]
            assert {record["status"] for record in bases} == {"interrupted"}
            assert not list(cli.runs.rglob("*.part"))
        runs, broken = Store(cli.runs).scan()
        assert not broken
        assert {run.status for run in runs if run.stage == "pretrain"} == {"interrupted"}
        assert "interrupted" in cli.run("ls").stdout
    cli.run(*arguments, "-s", "study.workers=1", "--no-wait", "-q")
    assert sorted((record["stage"], record["status"]) for record in cli.records().values()) == [
        *[("finetune", "done")] * 2,
        ("fmnist", "done"),
        *[("pretrain", "done")] * 2,
    ]
    assert not list(cli.runs.rglob("*.part"))


def test_bench_measures_and_the_report_reads_it(copied: CommandLine) -> None:
    found = copied.json("bench", "lora", "--ranks", "4", "--rounds", "1", "--steps", "2", "--batch-size", "32")
    assert [cost["label"] for cost in found["costs"]] == ["full", "lora k=4"]
    assert (found["threads"], found["batch_size"]) == (1, 32)
    speed = next(row for row in copied.json("report")["ledger"] if row["key"] == "cost.speed")
    assert (speed["verdict"], speed["n"]) == ("no verdict", 1)
    assert "write whole numbers" in copied.fails(2, "bench", "--ranks", "a")
    assert "no method is called" in copied.fails(2, "bench", "nonsense")


def test_the_report_is_written_in_every_format(small_study: CommandLine, tmp_path: Path) -> None:
    drawn = small_study.run("report", "--out", str(tmp_path / "report.svg"))
    assert "<svg" in (tmp_path / "report.svg").read_text()
    assert (drawn.stdout, drawn.stderr) == ("", f"wrote {tmp_path / 'report.svg'}\n")
    assert "| accuracy, % | MNIST | F-MNIST |" in small_study.run("report", "--format", "md").stdout
    assert small_study.json("report", "--out", str(tmp_path / "report.json")) == json.loads(
        (tmp_path / "report.json").read_text()
    )
    small_study.run("report", "--out", str(tmp_path / "runs.csv"))
    lines = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    accuracy = {line["id"]: float(line["fmnist.accuracy"]) for line in lines if line["stage"] == "finetune"}
    tuned = {key: run for key, run in small_study.records().items() if run["stage"] == "finetune"}
    assert accuracy == {key: run["metrics"]["fmnist"]["accuracy"] for key, run in tuned.items()}
    assert "must end in .txt, .md" in small_study.fails(2, "report", "--out", "report.png")
    assert "stdout takes one of them" in small_study.fails(2, "report", "--format", "csv")
    assert "cannot be written" in small_study.fails(4, "report", "--out", str(tmp_path / "none" / "report.md"))


def test_figures_are_files_and_stand_in_the_page(small_study: CommandLine, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    document = small_study.json("report", "--figures", str(tmp_path / "figures"), "--out", str(page))
    written = {Path(file).name for figure in document["figures"] for file in figure["files"]}
    assert {"confusions.svg", "confusions.png", "samples.svg", "samples.png"} <= written
    assert written == {path.name for path in (tmp_path / "figures").iterdir()}
    missing = {figure["name"]: figure["missing"] for figure in document["figures"] if not figure["files"]}
    assert "two or more" in missing["rank"]
    assert page.read_text().count("<svg") == len(written) / 2


def test_flags_of_finetune_are_settings(copied: CommandLine) -> None:
    planned = copied.json("finetune", "dora", *SHORT, "--k", "2", "--targets", "fc1", "--dry-run")
    assert list(planned["stages"])[-1].startswith("dora-k2-s0-")
    chosen = planned["settings"]["finetune"]
    assert (chosen["k"], chosen["targets"]) == (2, ["fc1"])


@pytest.mark.usefixtures("few_images")
def test_json_is_the_only_thing_on_stdout(cli: CommandLine) -> None:
    done = cli.run("pretrain", *SHORT, "--json")
    assert json.loads(done.stdout)["schema"] == 1
    assert "epoch 1/1" in done.stderr
    quiet = cli.run("pretrain", *SHORT, "-q")
    assert quiet.stderr == ""
    assert "there already" in quiet.stdout


@pytest.mark.usefixtures("few_images")
def test_held_out_images_take_the_test_sets_place(cli: CommandLine) -> None:
    found = cli.json("pretrain", *SHORT, "-s", "holdout=5000")
    record = cli.records()[found["id"]]
    assert record["metrics"]["mnist"]["n"] == 5000
    assert record["cost"]["steps"] == (6_000 - 5_000) // 256
    assert found["id"] not in cli.json("pretrain", *SHORT, "--dry-run")["stages"]
    assert found["id"] in cli.json("pretrain", *SHORT, "-s", "holdout=5000", "--dry-run")["stages"]

    said = "measured on 5,000 images held out of the training set, not on the test set"
    base, run_id = found["id"], cli.json("finetune-lora", *SHORT, "-s", "holdout=5000")["id"]
    other = cli.json("finetune-lora", *SHORT, "-s", "holdout=5000", "--k", "2")["id"]
    for arguments in (["report"], ["report", run_id], ["report", base, run_id], ["report", base, run_id, other]):
        assert squeezed(cli.run(*arguments).stdout).count(said) == 1, arguments
    assert said in squeezed(cli.run("evaluate", run_id).stdout)
    assert said in squeezed(cli.run("pretrain", *SHORT, "-s", "holdout=5000").stdout)
    assert "what the talk says" not in cli.run("report").stdout
    assert cli.json("report")["ledger"] == []
    assert {run["id"] for run in cli.json("ls", "--where", "holdout == 5000")["runs"]} >= {base, run_id}


def test_a_method_that_somebody_adds_is_in_every_command(copied: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.METHODS, "toy", toy.ENTRY)
    monkeypatch.setitem(sys.modules, "lorabench.methods.toy", toy)
    made = copied.json("finetune", "toy", *SHORT)
    assert made["params"]["trainable"] == 3
    assert copied.json("report", made["id"])["run"]["method"] == "toy"
    assert "toy" in copied.run("report", "lora-k4-s0", made["id"]).stdout
    script = (
        f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import toy\n"
        "from lorabench import methods; methods.METHODS['toy'] = toy.ENTRY\n"
        "from lorabench.cli import main; main()"
    )
    helped = subprocess.run(
        [sys.executable, "-c", script, "finetune", "--help"], capture_output=True, text=True, check=True
    )
    assert re.search(r"^ ?toy +3 *$", helped.stdout, re.MULTILINE)


def test_a_shift_that_somebody_adds_runs_from_end_to_end(copied: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shifts.SHIFTS, "dim", toy_shift.SHIFT)
    dim = ("-s", "fmnist.shift=dim", "-s", "fmnist.factor=0.5")
    made = copied.run("make-fmnist", *dim).stdout
    assert "original" in made
    assert "dimmed" in made
    records, tuned_id = copied.records, copied.json("finetune-lora", *SHORT, *dim)["id"]
    tuned = records()[tuned_id]
    record = records()[tuned["parents"]["data"]]
    assert record["settings"] == {"shift": "dim", "fraction": 0.3, "classes": [2, 3], "seed": 0, "factor": 0.5}
    assert [record["checks"]["test"]["flipped"][digit] for digit in (2, 3)] == [310, 303]
    assert tuned["metrics"]["fmnist"]["slices"]["flipped"]["n"] == 613
    copied.run("evaluate", tuned_id)
    assert copied.json("report", tuned_id)["run"]["parents"]["data"] == record["id"]
    first = next(run for run in records() if run.startswith("lora-k4-s0") and run != tuned_id)
    copied.run("report", tuned_id, first)
