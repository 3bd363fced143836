"""What `ls` chooses, sorts and shows: fields of runs, conditions on them, orders."""

from __future__ import annotations

import json
import math
import re
import subprocess
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from report_factory import FMNIST, failed, finetune, fmnist, metrics, pretrain, render, study

from lorabench import query
from lorabench.analysis.listing import fields, listing_data, select
from lorabench.analysis.settings import told_apart
from lorabench.errors import UsageError
from lorabench.report import listing
from lorabench.runs import Broken, Parents, Run

NOW = datetime(2025, 11, 23, 23, 5, tzinfo=UTC)


def with_k(k: int, errors: int, **changes: Any) -> Run:
    run = finetune(0, 222, errors, id=f"lora-k{k}-s0-0000000{k}", k=k, **changes)
    return run.model_copy(update={"settings": {**run.settings, "k": k}})


RUNS = [fmnist(), pretrain(), with_k(1, 300), with_k(2, 200), with_k(4, 200), with_k(8, 150), failed()]


def ids(**how: Any) -> list[str]:
    """The chosen runs by stage or rank, for short."""
    chosen = select(RUNS, **how)
    return [run.status if run.error else f"k{run.k}" if run.k else run.stage for run in chosen.runs]


def test_fields_are_the_records_own_values() -> None:
    run = finetune(env={"torch": "2.13.0", "git": {"commit": "abc", "dirty": False}})
    found = fields(run)
    expected = {
        "id": run.id,
        "method": "lora",
        "k": 4,
        "seed": 0,
        "base": pretrain().id,
        "data": FMNIST,
        "error": None,
        "mnist.accuracy": Fraction(9778, 10_000),
        "fmnist.accuracy": Fraction(9774, 10_000),
        "fmnist.flipped.accuracy": Fraction(580, 613),
        "fmnist.upright.n": 1429,
        "before.fmnist.accuracy": Fraction(9326, 10_000),
        "forgotten": 0.0,
        "params.trainable": 6248,
        "cost.train_s": 4.1,
        "settings.lr": 0.003,
        "lr": 0.003,
        "init": "talk",
        "targets": None,
        "checks.frozen_unchanged": True,
        "env.git.dirty": False,
    }
    assert {name: found[name] for name in expected} == expected
    assert fields(fmnist())["classes"] == "2,3"


def test_measured_fields_are_null_where_nothing_was_measured() -> None:
    found = fields(failed())
    assert found["error"] == "the loss is NaN at step 12 of 940; try a smaller finetune.lr"
    assert found["fmnist.rest.accuracy"] is found["forgotten"] is found["cost.wall_s"] is None


def test_every_field_can_be_asked_for_in_a_condition() -> None:
    for name in {name for run in RUNS for name in fields(run)}:
        assert query.parse(f"{name} == null").names == (name,)


def test_where_keeps_the_runs_that_fit() -> None:
    assert ids(where="k >= 4 and fmnist.accuracy > 97%") == ["k4", "k8"]
    assert ids(where="id ~ 'pretrain-*' or status == 'failed'") == ["pretrain", "failed"]
    assert ids(where="lr == 0.003 and fmnist.accuracy != null") == ["k1", "k2", "k4", "k8"]
    assert ids(where="k > 100") == []
    assert select(RUNS, where="k > 100").total == 7


def test_sort_puts_what_lacks_the_field_last_and_keeps_ties_in_order_of_time() -> None:
    assert ids(sort="fmnist.accuracy") == ["pretrain", "k1", "k2", "k4", "k8", "fmnist", "failed"]
    assert ids(sort="-fmnist.accuracy") == ["k8", "k2", "k4", "k1", "pretrain", "fmnist", "failed"]
    assert ids(sort="-fmnist.accuracy, -k") == ["k8", "k4", "k2", "k1", "pretrain", "failed", "fmnist"]
    assert ids(sort="stage,-k")[:3] == ["k8", "k4", "failed"]
    lost = finetune(id="lora-k4-s0-00000000", metrics={"fmnist": metrics({}).model_copy(update={"loss": math.nan})})
    order = select([lost, *study([0, 1])], sort="-fmnist.loss").runs
    assert [run.stage for run in order[-2:]] == ["finetune", "fmnist"]
    assert order[-2].id == lost.id


def test_limit_takes_the_first_of_an_order_or_the_newest() -> None:
    assert ids(sort="-k", limit=2) == ["k8", "k4"]
    assert ids(limit=2) == ["k8", "failed"]
    assert ids(where="k < 100", limit=100) == ["k1", "k2", "k4", "k8", "failed"]
    assert select(RUNS, where="k == 4", limit=1).fitting == 2


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"where": "fmnist.acuracy > 0.9"}, "no run here has a field fmnist.acuracy; did you mean fmnist.accuracy"),
        ({"where": "method == lora"}, "a text stands in quotes"),
        ({"sort": "-fmnits.accuracy"}, "did you mean fmnist.accuracy"),
        ({"columns": "id,xyzzy"}, "no run here has a field xyzzy (`lorabench ls --cols help` lists them)"),
        ({"columns": "id,,k"}, "--cols 'id,,k': write names with commas"),
        ({"sort": "-"}, "--sort '-': write names"),
        ({"where": "k = 4"}, 'did you mean "=="'),
        ({"where": "k == 'four'"}, "k is a count, 'four' is no number"),
        ({"where": "id > 4"}, "id is a text, 4 is a number"),
    ],
)
def test_what_cannot_be_selected_is_refused(how: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(RUNS, **how)
    assert problem in str(caught.value)


def test_an_empty_folder_has_no_wrong_names_and_may_have_no_run_that_fits() -> None:
    assert select([], where="whatever > 4", sort="some,thing", columns="at,all").runs == ()
    assert render(listing.listing(select(RUNS, where="k > 100"), now=NOW)) == "no runs fit\n"


def test_columns_are_shown_in_full_and_in_percent_where_ls_is() -> None:
    chosen = select(RUNS, columns="id,k,fmnist.accuracy,method,checks.frozen_unchanged", where="k == 8 or k == null")
    long = "x" * 300
    table = listing.listing(chosen, [Broken("lora-k4-s9-aaaaaaaa", long)], now=NOW, width=20)
    lines = render(table, 400).splitlines()
    assert lines[0].split() == ["id", "k", "fmnist.accuracy", "method", "checks.frozen_unchanged"]
    assert [line.split() for line in lines[1:4]] == [
        [FMNIST, "-", "-", "-", "-"],
        [pretrain().id, "-", "93.26%", "-", "-"],
        ["lora-k8-s0-00000008", "8", "98.50%", "lora", "true"],
    ]
    assert "3 of 7 runs" in lines
    assert f"lora-k4-s9-aaaaaaaa  cannot be read: {long}" in lines
    document = listing_data(chosen)
    assert document["runs"][2] == {
        "id": "lora-k8-s0-00000008",
        "k": 8,
        "fmnist.accuracy": 0.985,
        "method": "lora",
        "checks.frozen_unchanged": True,
    }
    assert (document["fitting"], document["total"]) == (3, 7)


def test_numbers_stand_right_and_texts_left() -> None:
    chosen = select([with_k(8, 150), pretrain(), finetune(k=16)], columns="k,method")
    assert render(listing.listing(chosen, now=NOW)).splitlines()[:4] == [" k  method", " 8  lora", " -  -", "16  lora"]


def test_the_fields_are_listed_with_their_newest_values() -> None:
    found = {row["name"]: row for row in listing.fields_data(RUNS)["fields"]}
    assert found["fmnist.accuracy"] == {"name": "fmnist.accuracy", "runs": 5, "newest": 0.985, "better": "higher"}
    assert found["forgotten"]["runs"] == 4
    lines = render(listing.fields_table(RUNS), 400).splitlines()
    assert len(lines) == len(found) + 1
    assert ["fmnist.accuracy", "5", "98.50%"] in [line.split() for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The runs as `ls` finds them, and one that is damaged."""
    for run in RUNS:
        (tmp_path / run.id).mkdir()
        (tmp_path / run.id / "run.json").write_text(run.model_dump_json(by_alias=True))
    (tmp_path / "lora-k4-s5-00000005").mkdir()
    (tmp_path / "lora-k4-s5-00000005" / "run.json").write_text('{"schema": 1')
    return tmp_path


def ls(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return CommandLine(folder, folder).run("ls", *arguments, code=code)


def test_ls_takes_all_options_at_once(folder: Path) -> None:
    options = ["--where", "k >= 2 and fmnist.accuracy > 97%", "--sort", "-fmnist.accuracy", "--limit", "2"]
    document = json.loads(ls(folder, *options, "--cols", "id,fmnist.accuracy", "--json").stdout)
    assert document["runs"] == [
        {"id": "lora-k8-s0-00000008", "fmnist.accuracy": 0.985},
        {"id": "lora-k2-s0-00000002", "fmnist.accuracy": 0.98},
    ]
    assert (document["fitting"], document["total"]) == (3, 7)
    assert [broken["id"] for broken in document["broken"]] == ["lora-k4-s5-00000005"]


def test_ls_cuts_no_piped_line(folder: Path) -> None:
    columns = "id,base,data,started,checks.base_sha256,env.torch,fmnist.accuracy"
    text = ls(folder, "--cols", columns, "--where", "k == 8").stdout
    last = finetune()
    assert text.splitlines()[1].split() == [
        "lora-k8-s0-00000008",
        str(last.parents.base),
        FMNIST,
        last.started,
        "ef" * 32,
        "2.13.0",
        "98.50%",
    ]
    assert "lora-k4-s5-00000005  cannot be read" in text


def test_ls_and_its_columns_show_the_same_accuracy_and_a_condition_takes_it_back() -> None:
    run = with_k(8, 150)
    usual = render(listing.listing(select([run]), now=NOW), 400)
    asked = render(listing.listing(select([run], columns="fmnist.accuracy"), now=NOW), 400)
    figure = asked.splitlines()[1].strip()
    assert figure.removesuffix("%") in usual
    assert select([run], where=f"fmnist.accuracy == {figure}").runs == (run,)


def test_ls_refuses_a_wrong_condition_and_lists_the_fields(folder: Path) -> None:
    assert "write 97% or 0.97" in ls(folder, "--where", "fmnist.accuracy > 97", code=2).stderr
    assert "condition, column 3" in ls(folder, "--where", "k = 4", code=2).stderr
    assert "fmnist.flipped.accuracy" in ls(folder, "--cols", "help").stdout


SEVERAL = [
    pretrain(),
    finetune(0, id="lora-k4-s0-00000001", settings={**finetune().settings, "lr": 0.01}),
    finetune(0, id="lora-k4-s0-00000002", settings={**finetune().settings, "targets": ["fc1", "fc3"]}, holdout=5000),
    finetune(1, id="lora-k4-s1-00000003", study="other"),
    finetune(10, id="lora-k4-s10-0000004", started=""),
]


def test_what_a_name_fits_is_told_apart_by_what_differs_and_named_as_shortly_as_can_be() -> None:
    lines = listing.choices("lora-k4-s", SEVERAL[1:], SEVERAL, NOW).splitlines()
    assert lines[0] == "lora-k4-s fits 4 runs; name one of them, or all by 'lora-k4-s*'"
    assert [re.split(r"  +", line.strip())[:3] for line in lines[1:]] == [
        ["lora-k4-s10", "lr=0.003 study=demo", "F-MNIST 97.74%"],
        ["lora-k4-s1", "lr=0.003 study=other", "F-MNIST 97.74%"],
        ["lora-k4-s0-00000002", "holdout=5000 lr=0.003 targets=fc1,fc3 study=demo", "F-MNIST 97.74%"],
        ["lora-k4-s0-00000001", "lr=0.01 study=demo", "F-MNIST 97.74%"],
    ]
    assert lines[2].endswith(" ago")
    assert not lines[1].endswith("ago")
    many = listing.choices("lora", SEVERAL[1:] * 9, SEVERAL, NOW).splitlines()
    assert (len(many), many[-1]) == (22, "  and 16 older ones")


def test_ls_shows_the_settings_in_which_its_rows_differ() -> None:
    def heads(runs: list[Run]) -> str:
        return render(listing.listing(select(runs), now=NOW, width=120, known=runs)).splitlines()[0]

    assert "setting" in heads(SEVERAL)
    assert "setting" not in heads([SEVERAL[0], SEVERAL[1]])
    assert "setting" not in heads([SEVERAL[3], SEVERAL[4]])
    other = finetune(0, id="lora-k4-s0-00000009", parents=Parents(base="pretrain-s0-00000007", data=FMNIST))
    quick = pretrain(id="pretrain-s0-00000007", settings={**pretrain().settings, "epochs": 1})
    known = [pretrain(), finetune(), quick, other]
    assert set(told_apart([finetune(), other], known).values()) == {"pretrain.epochs=1", "pretrain.epochs=4"}
