"""The comparison of methods: the entries of a study, and the whole way from a config to the report."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from command_line import SHORT, CommandLine
from report_factory import widest
from test_config import load, problems

from lorabench import config, methods
from lorabench.config import Entry
from lorabench.model import SimpleMnistClassifier
from lorabench.runner import make, stages

SHIPPED = Path(__file__).parent.parent / "configs" / "methods.yaml"
TWO = "study: {methods: [{method: lora, init: kaiming}, {method: bitfit, lr: 0.5}]}\nfinetune: {epochs: 2, k: 7}\n"


@pytest.fixture
def two(tmp_path: Path) -> config.Config:
    path = tmp_path / "two.yaml"
    path.write_text(TWO)
    return load(path, sets=["study.seeds=0-1"]).config


def test_entries_share_bases_steps_and_batches(two: config.Config) -> None:
    found = stages.study(two)
    assert [stage.kind for stage in found] == ["fmnist", "pretrain", "pretrain", *["finetune"] * 4]
    tuned = [stage for stage in found if stage.kind == "finetune"]
    assert {stage.parents.base for stage in tuned} == {stage.id for stage in stages.study(load().config)[1:3]}
    assert {(stage.settings["epochs"], stage.settings["batch_size"], stage.settings["warmup"]) for stage in tuned} == {
        (2, 256, 0.2)
    }
    assert [(s.method, s.seed, s.settings["lr"]) for s in tuned] == [
        ("lora", 0, 0.03),
        ("bitfit", 0, 0.5),
        ("lora", 1, 0.03),
        ("bitfit", 1, 0.5),
    ]
    assert (tuned[0].settings["k"], tuned[0].settings["init"]) == (4, "kaiming")


def test_an_entry_is_the_run_that_its_finetune_section_would_be(two: config.Config) -> None:
    alone = load(sets=["finetune.method=bitfit", "finetune.lr=0.5", "finetune.epochs=2"]).config
    assert stages.finetune(alone).id in {stage.id for stage in stages.study(two)}


def test_a_run_of_an_entry_repeats_from_its_own_config(two: config.Config, tmp_path: Path) -> None:
    for stage in stages.study(two):
        path = tmp_path / "config.yaml"
        path.write_text(config.dump(stage.config))
        again = load(path).config
        assert stage.kind != "finetune" or stages.finetune(again).id == stage.id


def test_entries_are_dumped_as_they_are_written(two: config.Config, tmp_path: Path) -> None:
    path = tmp_path / "dumped.yaml"
    path.write_text(config.dump(two))
    assert load(path).config == two


def test_a_bad_entry_is_said_with_its_place(tmp_path: Path) -> None:
    text = (
        "study:\n  methods:\n    - {method: lorra}\n    - {method: lora, k: 0}\n"
        "    - {method: full, k: 4}\n    - {method: lora, epochs: 9}\n    - {k: 4}\n    - full\n"
    )
    found = problems(tmp_path, text)
    assert found[0].startswith(
        'bad.yaml:3:8  study.methods[0].method  no method is called "lorra"; did you mean "lora"?'
    )
    assert found[1].startswith("bad.yaml:4:22  study.methods[1].k  input should be greater than or equal to 1; got 0")
    assert (
        found[2] == "bad.yaml:5:22  study.methods[2].k  unknown key of the method full; known keys: method, targets, lr"
    )
    assert found[3].startswith(
        "bad.yaml:6:22  study.methods[3].epochs  unknown key of the method lora; known keys: method, targets, lr, k"
    )
    assert "study.methods[4].method  field required" in found[4]
    assert "study.methods[5]" in found[5]
    assert len(found) == 6


@pytest.mark.parametrize("command", ["study", "tune"])
def test_an_option_that_each_method_says_itself_is_refused(command: str, tmp_path: Path) -> None:
    path, cli = tmp_path / "two.yaml", CommandLine(tmp_path / "runs", tmp_path)
    path.write_text(TWO)  # its finetune.k is not refused: `lorabench finetune` reads it
    asked = [command, "-c", str(path), "--dry-run", "-s"]
    for option in ("k=2", "init=kaiming", "targets=fc1"):
        message = f"--set finetune.{option}: study.methods of the config says every method's {option.split('=')[0]}"
        assert message in cli.fails(2, *asked, f"finetune.{option}")
    assert "finetune.epochs set by --set" in cli.run(*asked, "finetune.epochs=1").stdout


def test_the_shipped_comparison_has_every_method_and_its_counts() -> None:
    shipped = load(SHIPPED).config
    assert {entry.method for entry in shipped.study.methods} == set(methods.METHODS)
    assert [stage.id for stage in stages.study(shipped) if stage.kind == "pretrain"] == [
        stage.id for stage in stages.study(load().config) if stage.kind == "pretrain"
    ]

    def trained(entry: Entry) -> int:
        base = SimpleMnistClassifier()
        layers = methods.linear_layers(base)
        chosen = methods.targeted(base, entry.method, entry.targets, **entry.options)
        return methods.METHODS[entry.method].trainable([layers[name] for name in chosen], entry.options)

    resized = [trained(entry) for entry in shipped.study.methods[-4:]]
    assert resized == [6_247, 6_304, 6_304, 6_248]


@pytest.mark.slow
def test_a_study_compares_its_methods(tmp_path: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli, measured = CommandLine(tmp_path / "runs", few_images), mock.Mock(wraps=make.measure)
    monkeypatch.setattr(make, "measure", measured)
    path = tmp_path / "few.yaml"
    path.write_text("study: {methods: [{method: lora}, {method: bitfit}, {method: adapter}]}\n")
    found = cli.json("study", "-c", str(path), "--seeds", "0-1", *SHORT, "-s", "study.workers=1")
    assert measured.call_count == 2 + 2 + 6, (
        "the two bases when they are made, before their first fine-tunes, and the six"
    )
    assert [row["label"] for row in found["methods"]] == ["lora-k4", "bitfit", "adapter"]
    lora, bitfit, adapter = found["methods"]
    assert (lora["versus"], bitfit["versus"]["estimate"]["n"], bitfit["trained"]) == (None, 2, 394)
    assert (lora["matched"], bitfit["matched"], adapter["matched"]) == (True, False, True)
    assert (lora["merges"], bitfit["merges"], adapter["merges"]) == (True, True, False)
    assert 1 <= lora["rank90"]["fc1"] <= 4
    assert (bitfit["rank90"]["fc1"], adapter["rank90"]) == (0, {})
    text = cli.run("report").stdout
    assert text.index("every method") < text.index("about 6,248") < text.index("what the talk says")
    assert widest(text) <= 80
    one = cli.run("report", "lora-k4-s0").stdout
    assert "stable rank" in one
    assert "frobenius" not in one
    (skipped,) = [r for r in cli.records().values() if r["id"].startswith("adapter-s0")]
    assert "ReLU" in skipped["checks"]["delta_w_skipped"]
