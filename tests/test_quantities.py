"""A quantity is declared once: who adds one finds it in every output, and none of today's is declared twice."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from report_factory import finetune, fmnist, pretrain, render, squeezed, study, study_data, study_report

from lorabench import query
from lorabench.analysis.comparison import compare, compare_data
from lorabench.analysis.gates import failing, group_rows
from lorabench.analysis.groups import groups, groups_data, method_rows, rows_data
from lorabench.analysis.listing import fields, fields_data, listing_data, measured, select, suits, unit
from lorabench.analysis.quantities import COUNT, QUANTITIES, SECONDS, Column, Quantity
from lorabench.analysis.settings import records
from lorabench.analysis.single import run_data
from lorabench.report import detail, sweep
from lorabench.report.blocks import stack
from lorabench.report.groups import groups_report
from lorabench.report.listing import listing
from lorabench.report.writers import Report, write
from lorabench.runs import Run
from lorabench.sweep import Counts, GridPoint, SweepResult, tuned_run

SLOW = "cost.slow_s"
TABLES = ("runs", "settings", "methods", "comparison", "sweep")


def seconds(run: Run) -> float | None:
    """10 s of a base, 12 s and 3 s a seed of a fine-tune."""
    return None if run.cost is None else 12.5 + 3 * run.seed if run.stage == "finetune" else 10.0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Quantity:
    """A quantity that no file of lorabench knows."""
    columns = {table: Column("slow, s", spread=table == "methods", decimals=1) for table in TABLES}
    toy = Quantity(SLOW, SECONDS, "slow_s", columns, "lower", seconds, compared=True)
    monkeypatch.setitem(QUANTITIES, SLOW, toy)
    return toy


def test_a_new_quantity_stands_in_ls_in_csv_and_in_the_report_of_one_run(slow: Quantity) -> None:
    runs = [fmnist(), pretrain(), finetune(1)]
    assert {"name": SLOW, "runs": 2, "newest": 15.5, "better": "lower"} in fields_data(runs)["fields"]
    chosen = select(runs, where=f"{SLOW} > 11", sort=f"-{SLOW}", columns=f"id,{SLOW}")
    assert chosen.rows == ((finetune(1).id, 15.5),)
    assert unit(SLOW) == SECONDS
    listed = squeezed(render(listing(select(runs), now=datetime.now(UTC), width=140)))
    assert "slow, s" in listed
    assert " 15.50 " in listed
    assert [row["slow_s"] for row in listing_data(select(runs))["runs"]] == [None, 10.0, 15.5]
    lines = list(csv.DictReader(io.StringIO(write(Report(stack([]), {}, runs), "csv"))))
    assert [line[SLOW] for line in lines] == ["", "10.0", "15.5"]
    assert "slow, s 15.5" in squeezed(render(detail.run_report(finetune(1))))
    assert {"label": "slow, s", "values": [15.5]} in [
        {key: metric[key] for key in ("label", "values")} for metric in run_data(finetune(1))["measured"]
    ]


def test_a_new_quantity_is_averaged_and_compared_over_seeds(slow: Quantity) -> None:
    runs = [run for seed in range(3) for run in (pretrain(seed), finetune(seed))]
    found = groups(runs, bases=records(runs))
    (_, row) = groups_data(found)["rows"]
    assert (row["slow_s"]["mean"], row["difference"][SLOW]["estimate"]["values"]) == (15.5, [2.5, 5.5, 8.5])
    assert "slow, s" in render(groups_report(found))
    condition = query.parse(f"{SLOW}.delta.mean > 5", suits)
    assert failing(condition, group_rows(runs, found, records(runs))) == [f"lora-k4  {SLOW}.delta.mean 5.5"]
    two = [*study(), *(finetune(seed, method="full", id=f"full-s{seed}-00000000", k=None) for seed in range(5))]
    assert "18.50" in render(study_report(two))
    assert [row["slow_s"]["mean"] for row in study_data(two)["methods"]] == [18.5, 18.5]


def test_a_new_quantity_stands_beside_that_of_another_run_and_in_a_sweep(slow: Quantity) -> None:
    compared = compare(pretrain(), finetune(1))
    assert "slow, s 10.0 15.5 +5.5" in squeezed(render(detail.compare_report(compared)))
    rows = {metric["label"]: metric for metric in compare_data(compared)["metrics"]}
    assert rows["slow, s"]["difference"] == 5.5
    assert rows["memory before training, MB"]["values"] == [400, 400]
    points = tuple(GridPoint((k,), tuple(tuned_run(finetune(seed), seed) for seed in range(3)), ()) for k in (1, 2))
    swept = SweepResult("sweep", ("k",), points, (0, 1, 2), 0, Counts(6, 0, 0), Counts(4, 0, 0))
    assert "slow, s" in render(sweep.sweep_report(swept))
    assert [point["slow_s"]["mean"] for point in sweep.sweep_data(swept)["points"]] == [15.5, 15.5]


def test_every_quantity_says_its_unit_and_is_a_field() -> None:
    names = [row["name"] for row in fields_data([finetune()])["fields"]]
    assert QUANTITIES.keys() <= set(names)
    assert all(unit(key) == quantity.unit for key, quantity in QUANTITIES.items())
    assert unit("fmnist.flipped.correct") == unit("fmnist.n") == COUNT
    assert all(measured(name) for name in ("fmnist.n", "fmnist.correct", "before.mnist.n", "checks.frozen_unchanged"))
    assert not any(measured(name) for name in ("lr", "k", "fmnist.fraction", "settings.n"))


def test_what_is_forgotten_is_base_less_tuned_and_needs_only_some_record_of_the_base() -> None:
    tuned = finetune(0, mnist_errors=250)
    assert fields(tuned)["forgotten"] == Fraction(250 - 222, 10_000)
    alone = finetune(0, mnist_errors=250, before={})
    assert fields(alone)["forgotten"] is None
    other = finetune(0, method="full", id="full-s0-00000000", k=None)
    (row, _) = method_rows([fmnist(), pretrain(0), alone, other])
    assert row.estimate("forgotten") is not None
    assert rows_data([row])[0]["forgotten"]["mean"] == pytest.approx(0.28)
