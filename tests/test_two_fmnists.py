"""Two F-MNISTs are two test sets: a base's metrics belong to it and to one of them, and nothing is compared across."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from report_factory import FMNIST, HURT, finetune, fmnist, metrics, pretrain, render, squeezed, study_data
from typer.testing import CliRunner

from lorabench import config
from lorabench.analysis import claims
from lorabench.analysis.gates import group_rows
from lorabench.analysis.groups import groups, method_rows
from lorabench.analysis.quantities import HEADLINE, Count
from lorabench.analysis.settings import beside, collect, comparable, records
from lorabench.analysis.study import overview
from lorabench.cli import app
from lorabench.report.figures import Material
from lorabench.report.figures.training import curves_of
from lorabench.report.shown import runs_shown, study_shown
from lorabench.report.sweep import sweep_data, sweep_report
from lorabench.runner import measure, stages
from lorabench.runner.session import open_session
from lorabench.runs import Epoch, Metrics, Parents, Run, Store
from lorabench.sweep import Counts, GridPoint, SweepResult, TunedRun

HARD = "fmnist-s0-0a1b2c3d4e5f"
HARDER = {cell: 2 * count for cell, count in HURT.items()}


def on_hard(seed: int = 0) -> dict[str, Metrics]:
    """The base of this seed on the F-MNIST that is twice as hard for it."""
    return {"mnist": pretrain(seed).metrics["mnist"], "fmnist": metrics({(4, 9): 222, **HARDER}, 10 + seed)}


def hard_fmnist() -> Run:
    return fmnist().model_copy(update={"id": HARD, "settings": {**fmnist().settings, "fraction": 0.9}})


def tuned_on_hard(seed: int = 0) -> Run:
    parents = Parents(base=pretrain(seed).id, data=HARD)
    return finetune(
        seed, fmnist_errors=300 + seed, id=f"lora-k4-s{seed}-8f3c2a9{seed}", before=on_hard(seed), parents=parents
    )


def made_beside(seed: int = 0) -> Run:
    """The base, first made for the hard F-MNIST."""
    return pretrain(seed, parents=Parents(data=HARD), metrics=on_hard(seed))


def percent(found: dict[str, Metrics], name: str = "fmnist") -> float:
    return 100 * found[name].correct / found[name].n


EASY_BASE, HARD_BASE = percent(pretrain().metrics), percent(on_hard())


def both(seeds: int = 3) -> list[Run]:
    """A study on two F-MNISTs, whose bases have the metrics of the hard one."""
    each = [[made_beside(seed), finetune(seed), tuned_on_hard(seed)] for seed in range(seeds)]
    return [fmnist(), hard_fmnist(), *(run for one in each for run in one)]


def test_a_base_has_metrics_for_each_fmnist_and_each_fine_tune_its_own() -> None:
    known = collect(both(1)).bases
    base = pretrain().id
    assert {key: percent(found) for key, found in known.items()} == {(base, FMNIST): EASY_BASE, (base, HARD): HARD_BASE}
    without = finetune(before={})
    assert "fmnist" not in collect([made_beside(), without]).base_metrics(without)
    assert percent(collect([made_beside(), without]).base_metrics(without), "mnist") == percent(
        pretrain().metrics, "mnist"
    )
    assert percent(collect([pretrain(), without, tuned_on_hard()]).base_metrics(without)) == EASY_BASE


def test_what_a_base_measured_elsewhere_is_not_shown_as_the_studys() -> None:
    row = study_data([fmnist(), made_beside(), finetune()])["accuracy"][0]
    assert (row["label"], row["accuracy"]["fmnist"]["mean"]) == ("base", EASY_BASE)
    # Its fine-tune failed: what is known of the base is its accuracy on MNIST.
    alone = study_data([fmnist(), made_beside()])["accuracy"][0]["accuracy"]
    assert alone.keys() == {"mnist"}


def test_each_fmnist_has_its_bases_and_its_gains_and_no_mean_is_across() -> None:
    found = {row.label: row for row in overview(both()).accuracy}
    assert list(found) == [
        "base fmnist.fraction=0.3",
        "base fmnist.fraction=0.9",
        *(f"lora-k4 fmnist.fraction={share}" for share in (0.3, 0.9)),
    ]
    assert found["base fmnist.fraction=0.3"].accuracy["fmnist"].mean == pytest.approx(EASY_BASE)
    assert found["base fmnist.fraction=0.9"].accuracy["fmnist"].mean == pytest.approx(HARD_BASE)
    assert all(row.accuracy["fmnist"].n == 3 for row in found.values())
    easy, hard = (found[f"lora-k4 fmnist.fraction={share}"].difference["fmnist"].estimate.mean for share in (0.3, 0.9))
    assert easy == pytest.approx(97.74 - EASY_BASE)
    assert hard == pytest.approx(97.00 - 0.01 - HARD_BASE)
    assert len(collect(both()).bases_by_training) == 1


def test_methods_on_two_fmnists_have_no_difference_and_the_ledger_one_fmnist() -> None:
    rows = method_rows(both())
    assert ["fmnist" in row.difference for row in rows] == [False, False]
    assert "mnist" in rows[1].difference
    full = finetune(method="full", id="full-s0-8f3c2a90", parents=tuned_on_hard().parents, before=on_hard())
    found = {row.key: row for row in claims.ledger([*both(1), full])}
    assert found["fmnist.base"].value == pytest.approx(EASY_BASE)
    assert found["fmnist.full"].value is None, "measured on another F-MNIST than the LoRA"


def test_differences_of_groups_are_of_the_same_images() -> None:
    runs = [*(made_beside(seed) for seed in range(3)), *(run for run in both() if run.stage == "finetune")]
    rows = {row.label: row for row in groups(runs, bases=records(both())).rows}
    gaps = {label: row.difference["fmnist"].estimate.mean for label, row in rows.items() if row.difference}
    assert gaps["lora-k4 fmnist.fraction=0.3"] == pytest.approx(97.74 - EASY_BASE)
    assert gaps["lora-k4 fmnist.fraction=0.9"] == pytest.approx(96.99 - HARD_BASE)
    tuned = groups([run for run in runs if run.stage == "finetune"]).rows[1]
    assert "mnist" in tuned.difference
    assert "fmnist" not in tuned.difference
    assert "fmnist.flipped" not in tuned.difference
    measured = [run for run in runs if run.stage == "pretrain"] + [tuned_on_hard(seed) for seed in range(3)]
    folded = groups([*measured, *(finetune(seed) for seed in range(3))], bases=records(both()))
    gated = {row.label: row for row in group_rows([*runs], folded, records(both()))}
    easy = gated["lora-k4 fmnist.fraction=0.3"].values["fmnist.delta.mean"]
    assert easy == pytest.approx((97.74 - EASY_BASE) / 100)
    other_images = finetune(1).model_copy(update={"holdout": 5000})
    assert comparable(finetune(0), other_images) == ({}, {})


def test_the_front_is_drawn_among_rows_of_one_fmnist() -> None:
    easy = [finetune(seed, fmnist_errors=226 + 5 * seed) for seed in range(3)]
    rows = groups([*easy, *(tuned_on_hard(seed) for seed in range(3))]).rows
    assert [row.front for row in rows] == [True, True]


def test_a_base_beside_its_fine_tunes_is_what_they_measured(tmp_path: Path) -> None:
    (base, tuned) = beside([made_beside(), finetune()])
    assert (base.parents.data, percent(dict(base.metrics)), tuned) == (FMNIST, EASY_BASE, finetune())
    assert beside([made_beside(), tuned_on_hard()])[0] == made_beside()
    compared = runs_shown(Store(tmp_path), [made_beside(), finetune()]).data
    gap = next(row for row in compared["accuracy"] if row["name"] == "fmnist")
    assert gap["difference"] == pytest.approx(97.74 - EASY_BASE)
    gate = study_shown([fmnist(), made_beside(), finetune()]).rows()
    assert gate[0].values["fmnist.accuracy"] == pytest.approx(EASY_BASE / 100)


def test_a_base_has_one_training_curve_whatever_it_was_measured_on() -> None:
    epochs = [Epoch(epoch=n, loss=1 / n, accuracy=0.9, lr=0.01, seconds=1) for n in (1, 2)]
    found = curves_of(Material(both(2), {run.id: epochs for run in both(2)}, "none"))
    assert [curve.label for curve in found if curve.label.startswith("base")] == ["base"]


def tuned_run(seed: int, images: str) -> TunedRun:
    """97, 98 and 99 percent, 4 points more than before."""
    right = 9_700 + 100 * seed
    values = {HEADLINE: Count(right, 10_000), "mnist.accuracy": Count(9_800, 10_000), "params.trainable": 6248}
    return TunedRun(f"r{seed}", seed, values, images, before=Count(right - 400 - seed, 10_000))


def swept(keys: tuple[str, ...], points: Sequence[tuple[tuple[Any, ...], str]]) -> SweepResult:
    found = [GridPoint(values, tuple(tuned_run(seed, images) for seed in range(3)), ()) for values, images in points]
    return SweepResult("sweep", keys, tuple(found), (0, 1, 2), 0, Counts(6, 0, 0), Counts(4, 0, 0))


def test_a_sweep_over_fmnists_names_no_best_and_shows_the_gain_on_each() -> None:
    one = swept(("fmnist.fraction",), [((0.1,), FMNIST), ((0.9,), HARD)])
    assert one.best is None
    assert [point["gain"]["estimate"]["mean"] for point in sweep_data(one)["points"]] == [pytest.approx(4.01)] * 2
    text = squeezed(render(sweep_report(one)))
    assert "best" not in text.lower()
    assert "+4.01 +- 0.02" in text
    two = swept(("k", "fmnist.fraction"), [((k, f), i) for k in (1, 4) for f, i in ((0.1, FMNIST), (0.9, HARD))])
    assert two.best is None
    assert "+4.01" in render(sweep_report(two))
    assert swept(("k",), [((1,), FMNIST), ((4,), FMNIST)]).best is not None


def test_a_base_that_is_there_is_measured_on_the_fmnist_that_is_asked_about(tmp_path: Path, data_dir: Path) -> None:
    quick = ["holdout=50000", "pretrain.epochs=1", "pretrain.batch_size=1000"]

    def pretrained(fraction: float) -> dict[str, Any]:
        sets = [part for text in [*quick, f"fmnist.fraction={fraction}"] for part in ("-s", text)]
        done = CliRunner().invoke(
            app,
            ["pretrain", "--json", "--threads", "1", *sets, "--runs-dir", str(tmp_path), "--data-dir", str(data_dir)],
        )
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    first, second, again = pretrained(0.9), pretrained(0.0), pretrained(0.9)
    assert first["id"] == second["id"]
    assert (first["cached"], second["cached"]) == (False, True)
    mnist, flipped = ({row["label"]: row["accuracy"] for row in found["accuracy"]} for found in (second, first))
    assert mnist["F-MNIST"] == mnist["MNIST"] == flipped["MNIST"], "nothing is mirrored"
    assert flipped["F-MNIST"] < flipped["MNIST"] - 1
    assert again["accuracy"] == first["accuracy"]

    chosen = config.load(sets=[*quick, "fmnist.fraction=0.0"]).config
    run = Store(tmp_path).load(first["id"])
    images = stages.fmnist(chosen)
    with open_session(Store(tmp_path), data_dir, chosen, lambda event: None) as session:
        measured = measure.measure_again(run, session, on=images)
        assert measure.measure_again(run, session).metrics == run.metrics
    assert measured.parents.data == images.id
    assert measured.metrics["fmnist"].slices["flipped"].n == 0
