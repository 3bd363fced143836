"""`report` from the command line, on records as studies leave them: which view, `--baseline`, `--fail-on`, damage."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from report_factory import failed, finetune, fmnist, pretrain, squeezed, study

from lorabench import query
from lorabench.cli import main
from lorabench.errors import UsageError
from lorabench.report.compare import compare
from lorabench.report.gate import GateRow, failing, group_rows, run_rows
from lorabench.report.groups import groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lorabench.runs import Run


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


def put(root: Path, runs: Sequence[Run]) -> None:
    for run in runs:
        (root / run.id).mkdir(parents=True)
        (root / run.id / "run.json").write_text(run.model_dump_json(by_alias=True))


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`lorabench report` on the folder `runs` of the test."""

    def run(*arguments: str) -> Done:
        monkeypatch.setenv("LORABENCH_RUNS", str(tmp_path / "runs"))
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["lorabench", "report", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Done(int(stop.value.code or 0), out, err)

    return run


# What a gate is asked of


def test_the_second_of_two_runs_has_the_differences_as_fractions() -> None:
    found = compare(pretrain(0), finetune(0))
    first, second = run_rows([pretrain(0), finetune(0)], found.accuracy)
    assert (first.label, first.values["fmnist.accuracy"]) == (pretrain(0).id, 0.9326)
    assert "fmnist.delta.mean" not in first.values
    fmnist_row = found.accuracy[1]
    assert second.values["fmnist.delta.mean"] == pytest.approx(0.0448)
    assert second.values["fmnist.delta.low"] == fmnist_row.low / 100
    assert second.values["fmnist.delta.high"] == fmnist_row.high / 100
    assert second.values["fmnist.flipped.delta.mean"] == pytest.approx((580 - 83) / 613)
    assert second.values["fmnist.delta.p"] is None, "the images are not there, so nothing is paired"


def test_a_group_has_means_what_its_runs_share_and_its_differences() -> None:
    runs = [*study(), failed()]
    found = groups(runs)
    rows = {row.label: row.values for row in group_rows(runs, found)}
    assert list(rows) == ["pretrain", "lora-k4", failed().id]
    lora, gap = rows["lora-k4"], found.rows[1].difference["fmnist"]
    assert lora["fmnist.accuracy"] == pytest.approx(1 - (226 + 10) / 10_000)
    assert (lora["k"], lora["method"], lora["id"], lora["checks.frozen_unchanged"]) == (4, "lora", None, True)
    assert lora["fmnist.delta.low"] == (gap.estimate.low or 0) / 100
    assert (lora["fmnist.delta.p"], lora["mnist.delta.mean"]) == (
        gap.holm,
        found.rows[1].difference["mnist"].estimate.mean / 100,
    )
    assert "fmnist.delta.mean" not in rows["pretrain"]
    assert (rows[failed().id]["status"], rows[failed().id]["fmnist.accuracy"]) == ("failed", None)


def test_a_condition_names_the_rows_that_meet_it_with_their_values() -> None:
    rows = [
        GateRow("good", {"fmnist.accuracy": 0.98, "k": 4}),
        GateRow("bad", {"fmnist.accuracy": 0.97, "k": None}),
    ]
    assert failing(query.parse("fmnist.accuracy < 0.975 or k > 4"), rows) == ["bad  fmnist.accuracy 0.97"]
    assert failing(query.parse("fmnist.accuracy < 0.9"), rows) == []
    with pytest.raises(UsageError, match=r"did you mean fmnist\.accuracy"):
        failing(query.parse("fmnist.acuracy < 0.975"), rows)


def test_what_nothing_measured_does_not_pass() -> None:
    rows = [GateRow("a", {"mnist.delta.low": None}), GateRow("b", {})]
    assert failing(query.parse("mnist.delta.low < 0"), rows) == ["mnist.delta.low  nothing measured it"]


# The command


def test_a_gate_that_fails_shows_the_report_first_and_exits_with_6(tmp_path: Path, report: Callable[..., Done]) -> None:
    put(tmp_path / "runs", study())
    condition = "fmnist.accuracy < 0.975 or fmnist.delta.low < -0.3%"
    done = report("*", "--fail-on", condition)
    assert (done.code, done.err.splitlines()) == (
        6,
        [f"lorabench: --fail-on {condition}", "  pretrain  fmnist.accuracy 0.9326"],
    )
    assert "F-MNIST, %" in done.out
    assert report("*", "--fail-on", "fmnist.accuracy < 0.9").code == 0
    as_json = report("*", "--fail-on", condition, "--json")
    assert (as_json.code, as_json.document["unmet"]) == (6, ["pretrain  fmnist.accuracy 0.9326"])
    assert report("*", "--fail-on", "k > 4", "--json").document["unmet"] == []


def test_a_gate_on_one_run_on_two_and_on_the_newest_study(tmp_path: Path, report: Callable[..., Done]) -> None:
    put(tmp_path / "runs", study())
    assert report("lora-k4-s0", "--fail-on", "fmnist.accuracy < 99%").code == 6
    assert report("lora-k4-s0", "pretrain-s0", "--fail-on", "fmnist.delta.high < 0").code == 6
    assert report("pretrain-s0", "lora-k4-s0", "--fail-on", "fmnist.delta.high < 0").code == 0
    found = report("--fail-on", "mnist.delta.low < 0")
    assert (found.code, "  lora-k4  mnist.delta.low -" in found.err) == (6, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-on", "fmnist.acuracy < 1"], "did you mean fmnist.accuracy"),
        (["lora-k4-s0", "--fail-on", "fmnist.delta.low < 0"], "fmnist.delta.low: no row is compared with another"),
        (["--fail-on", "fmnist.accuracy <"], "fmnist.accuracy <"),
        (["*", "--baseline", "*"], "names 2 settings: pretrain, lora-k4"),
        (["*", "--baseline", "fmnist*"], "no run that it names is finished"),
    ],
)
def test_a_wrong_question_is_one_line_and_no_report(
    tmp_path: Path, report: Callable[..., Done], arguments: list[str], message: str
) -> None:
    put(tmp_path / "runs", study())
    done = report(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_the_number_of_runs_decides_what_is_shown(tmp_path: Path, report: Callable[..., Done]) -> None:
    put(tmp_path / "runs", study())
    assert "run" in report("lora-k4-s0", "--json").document
    assert report("lora-k4-s0", "pretrain-s0", "--json").document["runs"] == [finetune(0).id, pretrain(0).id]
    two = report("lora-k4-s0", "--baseline", "pretrain-s0", "--json").document
    assert two["runs"] == [pretrain(0).id, finetune(0).id]
    many = report("pretrain*", "lora*", "--baseline", "lora-k4-s2", "--json").document
    assert (many["baseline"], [row["label"] for row in many["rows"]]) == ("lora-k4", ["lora-k4", "pretrain"])
    assert report("--baseline", "pretrain*", "--json").document["baseline"] == "pretrain"
    assert all(len(line) <= 80 for line in report("*").out.splitlines())


def test_three_damaged_runs_of_five_hundred_are_named_and_hide_no_other(
    tmp_path: Path, report: Callable[..., Done]
) -> None:
    root = tmp_path / "runs"
    runs = [fmnist(), *(pretrain(seed) for seed in range(5))]
    for i in range(494):
        run = finetune(i % 5, settings=finetune(i % 5).settings | {"lr": 0.001 * (1 + i // 5)})
        runs.append(run.model_copy(update={"id": f"lora-k4-s{i % 5}-{i:08x}"}))
    put(root, runs)
    bad = [run.id for run in runs[10:13]]
    for name, text in zip(bad, ("", '{"schema": 1', "[]"), strict=True):
        (root / name / "run.json").write_text(text)
    found = report("*", "--json").document
    assert sum(len(row["runs"]) for row in found["rows"]) + len(found["without_model"]) == 497
    assert [folder["id"] for folder in found["broken"]] == sorted(bad)
    shown = squeezed(report("*").out)
    assert all(name in shown for name in bad)


def test_two_runs_beside_a_damaged_one_are_compared_and_it_is_named(
    tmp_path: Path, report: Callable[..., Done]
) -> None:
    put(tmp_path / "runs", [finetune(seed) for seed in range(3)])
    (tmp_path / "runs" / finetune(1).id / "run.json").write_text("{")
    done = report("lora*")
    assert "what differs" in done.out
    assert f"left out: {tmp_path / 'runs' / finetune(1).id}" in done.err
    assert report(finetune(1).id, finetune(0).id, finetune(2).id).code == 4, "a run that is named must be there"
    (tmp_path / "runs" / finetune(0).id / "run.json").write_text("{")
    (tmp_path / "runs" / finetune(2).id / "run.json").write_text("{")
    assert "fits lora* that can be read; 3 cannot" in report("lora*").err
