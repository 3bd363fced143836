"""The comparison of methods: entries of a study, learning rates chosen on held-out images, the spectrum of ΔW."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from report_factory import finetune, render, widest
from test_cli import SHORT, Lab
from test_config import load, problems

from lorabench import config, events, methods, report, spectrum, stages, study, tune
from lorabench.errors import RunFailedError
from lorabench.model import SimpleMnistClassifier, seeded
from lorabench.runs import Store

if TYPE_CHECKING:
    from lorabench.config import Entry
    from lorabench.events import Event
    from lorabench.runs import Run
    from lorabench.stages import Stage

SHIPPED = Path(__file__).parent.parent / "configs" / "methods.yaml"
TWO = "study: {methods: [{method: lora, init: kaiming}, {method: bitfit, lr: 0.5}]}\nfinetune: {epochs: 2, k: 7}\n"


@pytest.fixture
def two(tmp_path: Path) -> config.Config:
    path = tmp_path / "two.yaml"
    path.write_text(TWO)
    return load(path, sets=["study.seeds=0-1"]).config


# Entries


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
    assert found[2] == "bad.yaml:5:22  study.methods[2].k  unknown key; known keys: method, targets, lr"
    assert found[3].startswith(
        "bad.yaml:6:22  study.methods[3].epochs  unknown key; known keys: method, targets, lr, k"
    )
    assert "study.methods[4].method  field required" in found[4]
    assert "study.methods[5]" in found[5]
    assert len(found) == 6


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
        return methods.formula(entry.method, [layers[name] for name in chosen], entry.options)

    resized = [trained(entry) for entry in shipped.study.methods[-4:]]
    assert resized == [6_247, 6_304, 6_304, 6_248]


# Learning rates


def scored(accuracy: dict[float, float | None], curve: tune.Curve) -> dict[str, Run]:
    """Runs as if training at each learning rate had given this accuracy in percent; None: it failed."""
    runs: dict[str, Run] = {}
    for lr, percent in accuracy.items():
        if percent is not None:
            found = finetune()
            metrics = found.metrics["fmnist"].model_copy(update={"correct": round(percent * 50), "n": 5000})
            stage = curve.stage(lr, 0)
            runs[stage.id] = found.model_copy(update={"id": stage.id, "metrics": {"fmnist": metrics}})
    return runs


def curve_of(*settings: str) -> tune.Curve:
    (curve,) = tune.curves(load(sets=["study.seeds=0", *settings]).config)
    return curve


def test_a_grid_is_seven_half_decades_on_held_out_images() -> None:
    curve = curve_of()
    assert curve.lrs == (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    assert curve.config.holdout == 5000
    assert curve_of("holdout=100").config.holdout == 100
    assert {stage.settings["lr"] for stage in curve.stages()} == set(curve.lrs)
    assert all(stage.config.holdout == 5000 for stage in tune.todo([curve]))


def test_the_best_is_the_highest_and_of_equals_the_smallest() -> None:
    curve = curve_of()
    done = scored({1e-4: 95, 3e-4: 97, 1e-3: 97, 3e-3: 96, 1e-2: 90, 3e-2: 50, 1e-1: None}, curve)
    assert curve.values(done) == [95, 97, 97, 96, 90, 50, None]
    assert curve.best(done) == 3e-4
    assert curve.widened(done) == curve
    assert curve.best({}) is None
    assert curve.widened({}) == curve


def test_a_best_at_the_edge_widens_the_grid_until_it_is_not() -> None:
    curve = curve_of("finetune.init=kaiming")
    truth: dict[float, float | None] = {lr: 90.0 - i for i, lr in enumerate(tune.GRID)}
    truth |= {3e-5: 91.0, 1e-5: 80.0}
    known = scored(truth, curve)
    asked: list[list[Stage]] = []
    told: list[str] = []

    def perform(todo: list[Stage]) -> dict[str, Run]:
        asked.append(todo)
        return {stage.id: known[stage.id] for stage in todo if stage.id in known}

    (found,), done = tune.tune([curve], perform, told.append)
    assert found.lrs == (1e-5, 3e-5, *tune.GRID)
    assert found.best(done) == 3e-5
    assert [len(todo) for todo in asked] == [9, 1, 1]
    assert told[0] == "lora kaiming: the best is 0.0001, at the edge of the grid; one point more"


def test_the_curves_print_and_can_be_pasted(tmp_path: Path) -> None:
    values: list[float | None] = [90.0, 91.0, 92.0, 97.44, 96.0, None, 10.0]
    found = [
        report.CurveRow("lora kaiming", {"method": "lora", "init": "kaiming"}, list(tune.GRID), values, 3e-3),
        report.CurveRow("full", {"method": "full"}, [3e-5, *tune.GRID], [98.0, *values], 3e-5),
        report.CurveRow("prompt reprogram", {"method": "prompt"}, list(tune.GRID), [None] * 7, None),
    ]
    text = render(report.curves_table(found, images=5000, seeds=[0]))
    assert widest(text) <= 80
    for needed in ("97.4*", "x", "98.0*", "5,000 held-out images, 1 seed: 0", "the edge of what was tried: full"):
        assert needed in text
    pasted = tmp_path / "pasted.yaml"
    pasted.write_text(text[text.index("study:") :])
    entries = load(pasted).config.study.methods
    assert [(entry.method, entry.lr) for entry in entries] == [("lora", 3e-3), ("full", 3e-5), ("prompt", None)]
    assert [row["edge"] for row in report.curves_data(found)] == [False, True, False]


# The whole way


def test_a_study_compares_its_methods(tmp_path: Path, data_dir: Path) -> None:
    lab = Lab(tmp_path / "runs", data_dir)
    path = tmp_path / "few.yaml"
    path.write_text("study: {methods: [{method: lora}, {method: bitfit}, {method: adapter}]}\n")
    found = lab.json("study", "-c", str(path), "--seeds", "0-1", *SHORT)
    assert [row["label"] for row in found["methods"]] == ["lora-k4", "bitfit", "adapter"]
    lora, bitfit, adapter = found["methods"]
    assert (lora["versus"], bitfit["versus"]["estimate"]["n"], bitfit["trained"]) == (None, 2, 394)
    assert (lora["matched"], bitfit["matched"], adapter["matched"]) == (True, False, True)
    assert (lora["merges"], bitfit["merges"], adapter["merges"]) == (True, True, False)
    assert 1 <= lora["rank90"]["fc1"] <= 4
    assert (bitfit["rank90"]["fc1"], adapter["rank90"]) == (0, {})
    text = lab.run("report").stdout
    assert text.index("every method") < text.index("about 6,248 parameters") < text.index("what the talk says")
    assert widest(text) <= 80
    one = lab.run("report", "lora-k4-s0").stdout
    assert "stable rank" in one
    assert "frobenius" not in one
    (skipped,) = [r for r in lab.records().values() if r["id"].startswith("adapter-s0")]
    assert "ReLU" in skipped["checks"]["delta_w_skipped"]


def test_keep_going_leaves_out_what_failed_and_its_children(tmp_path: Path, data_dir: Path) -> None:
    good = load(sets=["pretrain.epochs=1", "finetune.epochs=1", "finetune.method=bitfit", "threads=1"]).config
    bad = good.model_copy(update={"pretrain": good.pretrain.model_copy(update={"lr": 1e6})})
    todo = list({s.id: s for c in (bad, good) for s in stages.chain(c, "finetune")}.values())
    told: list[Event] = []
    done = study.run(todo, good, Store(tmp_path), data_dir=data_dir, keep_going=True, tell=told.append)
    assert set(done) == {stage.id for stage in stages.chain(good, "finetune")}
    assert any(isinstance(e, events.Message) and "the loss became" in e.text for e in told)
    assert not (tmp_path / stages.finetune(bad).id).exists()
    with pytest.raises(RunFailedError):
        study.run(todo, good, Store(tmp_path), data_dir=data_dir, tell=told.append)


def test_tune_on_the_command_line(tmp_path: Path, data_dir: Path) -> None:
    lab = Lab(tmp_path / "runs", data_dir)
    assert "would run 9, cached 0" in lab.run("tune", "--dry-run").stdout
    done = lab.run("tune", *SHORT, "--json", "-s", "pretrain.batch_size=5000", "-s", "finetune.batch_size=5000")
    document = json.loads(done.stdout)
    (curve,) = document["curves"]
    assert (document["holdout"], curve["label"], len(curve["accuracy"]) >= 7) == (5000, "lora", True)


# The spectrum of the change


def test_the_spectrum_of_a_known_matrix() -> None:
    change = torch.zeros(5, 7)
    change[0, 1], change[2, 3], change[4, 4] = 3.0, -4.0, 0.5
    found = spectrum.spectrum(change)
    assert found.frobenius == pytest.approx(25.25**0.5)
    assert found.stable_rank == pytest.approx(25.25 / 16)
    assert found.rank90 == 2
    assert spectrum.spectrum(torch.zeros(3, 2)) == (0, 0, 0)


@pytest.mark.parametrize(("method", "options", "most"), [("lora", {"k": 3}, 3), ("head", {}, 10), ("bitfit", {}, 0)])
def test_a_change_has_at_most_the_methods_rank(method: str, options: dict[str, Any], most: int) -> None:
    with seeded(0):
        model = SimpleMnistClassifier()
        before = spectrum.copy(model)
        methods.apply(model, method, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.1 * torch.randn_like(parameter)
    found = spectrum.delta_w(before, methods.merge(model))
    assert list(found) == ["fc1", "fc2", "fc3"]
    assert max(layer.rank90 for layer in found.values()) <= most
    assert (found["fc1"].frobenius > 0) == (method == "lora")
    assert found["fc3"].stable_rank <= max(most, 0)
