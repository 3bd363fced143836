"""Learning rates chosen on held-out images: the grid, the best, its edges, and runs that fail on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import QUICK, CommandLine
from report_factory import finetune, render, widest
from test_config import load

from lorabench import events, tune
from lorabench.errors import RunFailedError
from lorabench.events import Event
from lorabench.report import sweep as tables
from lorabench.runner import queue, stages
from lorabench.runner.stages import Stage
from lorabench.runs import Run, Store


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


def test_a_rate_at_which_a_seed_failed_is_none_that_could_be_best() -> None:
    (curve,) = tune.curves(load(sets=["study.seeds=0-1"]).config)
    done = scored(dict.fromkeys(curve.lrs, 97.0), curve)  # of seed 0 alone
    assert curve.values(done) == [None] * 7


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
        tune.CurveRow("lora kaiming", {"method": "lora", "init": "kaiming"}, list(tune.GRID), values, 3e-3),
        tune.CurveRow("full", {"method": "full"}, [3e-5, *tune.GRID], [98.0, *values], 3e-5),
        tune.CurveRow("prompt reprogram", {"method": "prompt"}, list(tune.GRID), [None] * 7, None),
    ]
    text = render(tables.curves_table(found, images=5000, seeds=[0]))
    assert widest(text) <= 80
    for needed in ("97.4*", "x", "98.0*", "5,000 held-out images, 1 seed: 0", "the edge of what was tried: full"):
        assert needed in text
    pasted = tmp_path / "pasted.yaml"
    pasted.write_text(text[text.index("study:") :])
    entries = load(pasted).config.study.methods
    assert [(entry.method, entry.lr) for entry in entries] == [("lora", 3e-3), ("full", 3e-5), ("prompt", None)]
    assert [row["edge"] for row in tables.curves_data(found)] == [False, True, False]


def test_keep_going_leaves_out_what_failed_and_its_children(tmp_path: Path, few_images: Path) -> None:
    good = load(sets=["pretrain.epochs=1", "finetune.epochs=1", "finetune.method=bitfit", "threads=1"]).config
    bad = good.model_copy(update={"pretrain": good.pretrain.model_copy(update={"lr": 1e6})})
    todo = list({s.id: s for c in (bad, good) for s in stages.chain(c, "finetune")}.values())
    told: list[Event] = []
    done = queue.run(todo, good, Store(tmp_path), data_dir=few_images, keep_going=True, emit=told.append)
    assert set(done) == {stage.id for stage in stages.chain(good, "finetune")}
    assert any(isinstance(e, events.Message) and "the loss became" in e.text for e in told)
    assert not (tmp_path / stages.finetune(bad).id).exists()
    with pytest.raises(RunFailedError):
        queue.run(todo, good, Store(tmp_path), data_dir=few_images, emit=told.append)


def test_tune_on_the_command_line(tmp_path: Path, few_images: Path) -> None:
    cli = CommandLine(tmp_path / "runs", few_images)
    assert "would run 9, cached 0" in cli.run("tune", "--dry-run").stdout
    assert "finetune.lr=0.1: tune tries learning rates of its own" in cli.fails(2, "tune", "-s", "finetune.lr=0.1")
    document = cli.json("tune", *QUICK, "-s", "holdout=5000", "-s", "study.workers=1")
    (curve,) = document["curves"]
    assert (document["holdout"], curve["label"], len(curve["accuracy"]) >= 7) == (5000, "lora", True)
    assert cli.json("report", "--study", "study-tune")["tune"]["curves"] == document["curves"]
    (listed,) = cli.json("ls", "--studies")["studies"]
    assert (listed["name"], listed["kind"]) == ("study-tune", "tune")
    assert listed["runs"] == [run_id for run_id in listed["runs"] if (cli.runs / run_id).is_dir()]
    assert "no study other in" in cli.fails(4, "report", "--study", "other")
    assert "leave --where" in cli.fails(2, "ls", "--studies", "--where", "k > 2")
    assert "next  lorabench report --study study-tune\n" in cli.run("ls", "--studies").stdout
