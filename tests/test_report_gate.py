"""`report` from the command line, on records as studies leave them: which view, `--baseline`, `--fail-on`, damage."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import failed, finetune, fmnist, pretrain, squeezed, study

from lorabench import query
from lorabench.analysis.comparison import compare
from lorabench.analysis.gates import GateRow, failing, group_rows, run_rows
from lorabench.analysis.groups import groups
from lorabench.analysis.listing import suits
from lorabench.analysis.settings import records
from lorabench.cli import main
from lorabench.errors import UsageError
from lorabench.runs import Run, Store

EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True, database=None)


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
    assert (first.label, first.values["fmnist.accuracy"]) == (pretrain(0).id, Fraction(9326, 10_000))
    assert "fmnist.delta.mean" not in first.values
    fmnist_row = found.accuracy[1]
    assert second.values["fmnist.delta.mean"] == Fraction(448, 10_000)
    assert second.values["fmnist.delta.low"] == pytest.approx(fmnist_row.low / 100, rel=1e-12)
    assert second.values["fmnist.delta.high"] == pytest.approx(fmnist_row.high / 100, rel=1e-12)
    assert second.values["fmnist.flipped.delta.mean"] == Fraction(580 - 83, 613)
    assert second.values["fmnist.delta.p"] is None, "the images are not there, so nothing is paired"


def test_a_group_has_means_what_its_runs_share_and_its_differences() -> None:
    runs = [*study(), failed()]
    found = groups(runs)
    rows = {row.label: row.values for row in group_rows(runs, found, records(runs))}
    assert list(rows) == ["pretrain", "lora-k4", failed().id]
    lora, gap = rows["lora-k4"], found.rows[1].difference["fmnist"]
    assert lora["fmnist.accuracy"] == Fraction(10_000 - 236, 10_000)
    assert lora["fmnist.delta.mean"] == Fraction(448 - 10, 10_000)
    assert (lora["k"], lora["method"], lora["id"], lora["checks.frozen_unchanged"]) == (4, "lora", None, True)
    assert lora["fmnist.delta.low"] == pytest.approx((gap.estimate.low or 0) / 100, rel=1e-12)
    assert lora["fmnist.delta.p"] == gap.holm
    assert "fmnist.delta.mean" not in rows["pretrain"]
    assert (rows[failed().id]["status"], rows[failed().id]["fmnist.accuracy"]) == ("failed", None)


def test_the_p_of_a_difference_is_the_one_that_the_report_shows() -> None:
    runs = study()
    for seed in range(5):
        other = finetune(seed, 222, 300 + 7 * seed, id=f"lora-k8-s{seed}-7f3c2a9{seed}", k=8)
        runs.append(other.model_copy(update={"settings": other.settings | {"k": 8}}))
    found = groups(runs)
    gaps = [row.difference["fmnist"] for row in found.rows[1:]]
    rows = group_rows(runs, found, records(runs))[1:]
    assert [row.values["fmnist.delta.p"] for row in rows] == [gap.holm for gap in gaps] != [gap.p for gap in gaps]


def test_a_condition_names_the_rows_that_meet_it_with_their_values() -> None:
    rows = [
        GateRow("good", {"fmnist.accuracy": Fraction(98, 100), "k": 4}),
        GateRow("bad", {"fmnist.accuracy": Fraction(97, 100), "k": None}),
    ]
    assert failing(query.parse("fmnist.accuracy < 0.975 or k > 4"), rows) == ["bad  fmnist.accuracy 97%"]
    assert failing(query.parse("fmnist.accuracy < 0.9"), rows) == []
    with pytest.raises(UsageError, match=r"did you mean fmnist\.accuracy"):
        failing(query.parse("fmnist.acuracy < 0.975"), rows)


def test_what_no_row_has_does_not_pass() -> None:
    rows = [GateRow("a", {"mnist.delta.low": None}), GateRow("b", {})]
    assert failing(query.parse("mnist.delta.low < 0"), rows) == ["mnist.delta.low  no row has what decides it"]


def gate(runs: Sequence[Run], condition: str) -> list[str]:
    """Why the gate on a report of `runs`, folded, does not pass."""
    known = records(runs)
    return failing(query.parse(condition, suits), group_rows(runs, groups(runs, bases=known), known))


UNFINISHED = [
    failed(),
    failed().model_copy(update={"status": "running", "error": None}),
    failed().model_copy(update={"status": "interrupted", "error": None}),
    fmnist().model_copy(update={"status": "failed", "id": "fmnist-s1-00000000"}),
]


@pytest.mark.parametrize("other", UNFINISHED, ids=lambda run: f"{run.stage}-{run.status}")
def test_a_run_that_is_not_done_fails_every_gate_and_is_named(other: Run) -> None:
    assert gate(study(), "fmnist.accuracy < 10%") == []
    (line,) = gate([*study(), other], "fmnist.accuracy < 10%")
    assert line.startswith(f"{other.id}  {other.status}")
    assert gate([other], "fmnist.accuracy < 10%") == [line]


def test_one_of_two_runs_that_is_not_done_fails_every_gate() -> None:
    for first, second in ((failed(), finetune(0)), (finetune(0), failed())):
        rows = run_rows([first, second], compare(first, second).accuracy)
        (line,) = failing(query.parse("fmnist.accuracy < 10%", suits), rows)
        assert line.startswith(f"{failed().id}  failed: the loss is NaN")
        assert len(failing(query.parse("fmnist.delta.mean < -50%", suits), rows)) == 1 + (first == failed())


def test_a_run_that_another_stands_for_is_not_passed_over() -> None:
    bad = finetune(0, fmnist_errors=5_000, id="lora-k4-s0-00000000")
    (line,) = gate([bad, *study()], "fmnist.accuracy < 60%")
    assert line.startswith(f"{bad.id}  ")


def test_a_value_that_one_seed_lacks_is_missing_from_the_row() -> None:
    runs = study()
    lacking = runs[-1].model_copy(update={"metrics": {"mnist": runs[-1].metrics["mnist"]}, "cost": None})
    runs[-1] = lacking
    for condition in ("fmnist.accuracy < 10%", "cost.train_s > 1000", "fmnist.delta.mean < 0%"):
        (line,) = gate(runs, condition)
        assert line.startswith(f"lora-k4  {condition.split()[0]} is missing: ")
    assert lacking.id in gate(runs, "fmnist.accuracy < 10%")[0]
    assert gate(runs, "mnist.accuracy < 10%") == []


def test_a_check_that_is_no_number_is_missing_from_the_row() -> None:
    checks = finetune(0).checks | {"max_logit_change_at_birth": float("nan")}
    (line,) = gate([pretrain(0), finetune(0, checks=checks)], "checks.max_logit_change_at_birth > 1")
    assert line.startswith("lora-k4  checks.max_logit_change_at_birth is missing: ")


def test_a_difference_that_a_seed_has_no_partner_for_is_missing() -> None:
    runs = [run for run in study() if run.id != pretrain(4).id]
    (line,) = gate(runs, "fmnist.delta.mean < 0%")
    assert "1 of 5 runs have no partner" in line
    alone = [pretrain(0), finetune(1), finetune(2)]
    assert "no run has a partner" in gate(alone, "mnist.delta.mean < -1%")[0]


def test_an_end_of_an_interval_that_is_not_there_is_missing() -> None:
    runs = study([0])
    for end in ("low", "high", "p"):
        (line,) = gate(runs, f"fmnist.delta.{end} == 0")
        assert line.startswith(f"lora-k4  fmnist.delta.{end} is missing: no interval")
    assert gate(runs, "fmnist.delta.mean < -1%") == []


def test_what_does_not_apply_to_a_row_is_not_missing_from_it() -> None:
    assert gate(study(), "forgotten > 5%") == gate(study(), "not fmnist.delta.low > -1%") == []
    assert gate(study(), "k > 4 or before.fmnist.accuracy < 10%") == []
    assert gate(study(), "checks.frozen_unchanged != true") == []


def test_what_differs_between_the_seeds_of_a_row_does_not_pass() -> None:
    assert all("differ" in line for line in gate(study(), "seed == 3 and fmnist.accuracy < 99.9%"))


def test_a_condition_that_no_row_can_answer_does_not_pass() -> None:
    runs = [run.model_copy(update={"settings": run.settings | {"alpha": None}}) for run in study()]
    assert gate(runs, "alpha > 4") == ["alpha  no row has what decides it"]
    assert gate(runs, "alpha > 4 and fmnist.accuracy > 99%") == [], "whatever alpha is"


@pytest.mark.parametrize(
    ("value", "figure"),
    [("fmnist.accuracy", "97.64%"), ("fmnist.delta.mean", "4.38%"), ("fmnist.correct", "9764"), ("k", "4")],
)
def test_a_value_that_is_exactly_the_conditions_is_neither_below_nor_above_it(value: str, figure: str) -> None:
    only = "k == 4 and "
    assert gate(study(), f"{only}{value} < {figure}") == gate(study(), f"{only}{value} > {figure}") == []
    assert len(gate(study(), f"{only}{value} == {figure}")) == 1


@EXAMPLES
@given(st.integers(9, 900), st.integers(-1, 1), st.sampled_from(["<", "<=", "==", ">=", ">", "!="]))
def test_an_accuracy_is_compared_as_its_count_is(errors: int, off: int, mark: str) -> None:
    run = finetune(0, fmnist_errors=errors)
    right = run.metrics["fmnist"].correct
    near = right + off
    rows = run_rows([run])
    condition = query.parse(f"fmnist.accuracy {mark} {near / 100:.2f}%", suits)
    assert bool(failing(condition, rows)) is bool(eval(f"{right} {mark} {near}"))


NUMBERS = {
    "fmnist.accuracy": ["93.26%", "97.64%", "0.5", "100%"],
    "fmnist.delta.mean": ["0", "4.38%", "-1%"],
    "fmnist.delta.low": ["0", "4%"],
    "mnist.delta.p": ["0.05", "6.25%"],
    "forgotten": ["0", "0.02%"],
    "k": ["4"],
    "seed": ["2"],
    "cost.train_s": ["4.1", "5"],
    "checkpoint_bytes": ["25616"],
}
LINKS = st.sampled_from([*NUMBERS]).flatmap(
    lambda name: st.builds(
        f"{name} {{}} {{}}".format, st.sampled_from(["<", "<=", "==", "!="]), st.sampled_from(NUMBERS[name])
    )
)
GATES = st.recursive(
    LINKS, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner), max_leaves=4
)


@EXAMPLES
@given(GATES, st.sets(st.integers(1, 6), min_size=1))
def test_a_gate_and_its_negation_never_both_pass(condition: str, chosen: set[int]) -> None:
    runs = [study(range(3))[index] for index in sorted(chosen)]
    try:
        found = [gate(runs, condition), gate(runs, f"not {condition}")]
    except UsageError:
        return  # a difference, and nothing that it could be from
    assert any(found)


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("fmnist.accuracy > 97.5", "write 97.5% or 0.975"),
        ("97.5 < fmnist.accuracy", "write 97.5% or 0.975"),
        ("fmnist.accuracy > 1", "write 1% or 100%"),
        ("fmnist.accuracy > 975%", "never outside 0% to 100%"),
        ("fmnist.accuracy > -0.5", "never outside 0% to 100%"),
        ("fmnist.delta.low < -0.3", "write -0.3% or -30%"),
        ("fmnist.delta.low < 4.97", "write 4.97%"),
        ("forgotten > 0.1", "write 0.1% or 10%"),
        ("fmnist.delta.p < 5", "write 5% or 0.05"),
        ("fmnist.correct < 97.5%", "a count, so no %"),
        ("fmnist.correct < 0.975", "a whole number"),
        ("fmnist.correct < -1", "never below 0"),
        ("checkpoint_bytes > 25.6", "a whole number"),
        ("cost.train_s > 50%", "a number of seconds, so no %"),
        ("cost.step_ms < -1", "never below 0"),
        ("fmnist.loss < 7%", "a loss in nats, so no %"),
        ("lr == 3%", "no %"),
        ("fmnist.accuracy < '97%'", "is no number"),
        ("fmnist.accuracy == true", "is no number"),
        ("fmnist.accuracy < fmnist.correct", "fmnist.correct is a count"),
        ("cost.train_s < cost.step_ms", "milliseconds"),
        ("97 > 98", "no field"),
        ("k == 4 and 1 < 0.5 < fmnist.accuracy", "no field"),
    ],
)
def test_a_number_that_is_not_its_fields_is_refused_with_what_would_be(condition: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        query.parse(condition, suits)
    assert hint in str(caught.value)


def test_numbers_in_their_fields_units_are_taken() -> None:
    for condition in (
        "0.9 < fmnist.accuracy <= 97.5% and mnist.accuracy > 0 and fmnist.accuracy < 100%",
        "fmnist.delta.low < 0 and fmnist.delta.high > -100% and 0% < forgotten < 1.5%",
        "fmnist.delta.p < 0.05 or mnist.delta.p < 5%",
        "fmnist.correct >= 9797 and k == 4 and checkpoint_bytes < 1e6 and cost.train_s < 0.5 and lr < 3e-2",
        "before.fmnist.accuracy < fmnist.accuracy and k == alpha and fmnist.accuracy != null",
    ):
        assert query.parse(condition, suits).names


# The command


def test_a_gate_that_fails_shows_the_report_first_and_exits_with_6(tmp_path: Path, report: Callable[..., Done]) -> None:
    put(tmp_path / "runs", study())
    condition = "fmnist.accuracy < 97.5% or fmnist.delta.low < -0.3%"
    done = report("*", "--fail-on", condition)
    assert (done.code, done.err.splitlines()) == (
        6,
        [f"lorabench: --fail-on {condition}", "  pretrain  fmnist.accuracy 93.26%"],
    )
    assert "F-MNIST, %" in done.out
    assert report("*", "--fail-on", "fmnist.accuracy < 0.9").code == 0
    as_json = report("*", "--fail-on", condition, "--json")
    assert (as_json.code, as_json.document["unmet"]) == (6, ["pretrain  fmnist.accuracy 93.26%"])
    assert report("*", "--fail-on", "k > 4", "--json").document["unmet"] == []


def test_a_gate_on_one_run_on_two_and_on_the_newest_study(tmp_path: Path, report: Callable[..., Done]) -> None:
    put(tmp_path / "runs", study())
    assert report("lora-k4-s0", "--fail-on", "fmnist.accuracy < 99%").code == 6
    assert report("lora-k4-s0", "pretrain-s0", "--fail-on", "fmnist.delta.high < 0").code == 6
    assert report("pretrain-s0", "lora-k4-s0", "--fail-on", "fmnist.delta.high < 0").code == 0
    found = report("--fail-on", "mnist.delta.low < 0")
    assert (found.code, "  lora-k4  mnist.delta.low -" in found.err) == (6, True)


def test_a_gate_on_the_newest_study_misses_a_run_that_is_gone_or_damaged(
    tmp_path: Path, report: Callable[..., Done]
) -> None:
    root = tmp_path / "runs"
    put(root, study())
    Store(root).remember_study("study", [run.id for run in study()])
    gate = ("--fail-on", "fmnist.accuracy < 10%")
    assert report(*gate).code == 0
    shutil.rmtree(root / finetune(4).id)
    (root / finetune(3).id / "run.json").write_text("{")
    found = report(*gate, "--json")
    assert (found.code, len(found.document["unmet"])) == (6, 2)
    assert f"{finetune(4).id}  is not there any more" in found.err
    assert report().code == 0
    put(root, [finetune(4)])
    globbed = report("lora-*", *gate, "--json").document["unmet"]
    assert [line.split()[0] for line in globbed] == [finetune(3).id]


@pytest.mark.parametrize("content", ["garbage", "{}", '{"runs": ["../up"]}', "[]"])
def test_a_damaged_note_warns_and_hides_nothing(tmp_path: Path, report: Callable[..., Done], content: str) -> None:
    root = tmp_path / "runs"
    put(root, study())
    (root / ".studies").mkdir()
    (root / ".studies" / "study.json").write_text(content)
    (root / ".bench.json").write_text(content)
    done = report()
    assert (done.code, "F-MNIST" in done.out) == (0, True)
    assert all(name in squeezed(done.err) for name in ("study.json", ".bench.json"))
    assert report("pretrain-*").code == 0
    gated = report("--fail-on", "fmnist.accuracy < 10%")
    assert (gated.code, "study.json" in gated.err) == (6, True), "which runs the gate is on is not known"


def test_a_place_of_notes_that_is_no_folder_warns(tmp_path: Path, report: Callable[..., Done]) -> None:
    put(tmp_path / "runs", study())
    (tmp_path / "runs" / ".studies").write_text("")
    (tmp_path / "runs" / ".bench.json").mkdir()
    done = report()
    assert (done.code, ".studies" in done.err, ".bench.json" in done.err) == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-on", "fmnist.acuracy < 1"], "did you mean fmnist.accuracy"),
        (["lora-k4-s0", "--fail-on", "fmnist.delta.low < 0"], "fmnist.delta.low: no row is compared with another"),
        (["--fail-on", "fmnist.accuracy <"], "fmnist.accuracy <"),
        (["--fail-on", ""], "an empty condition"),
        (["--fail-on", "fmnist.delta.low < -0.3"], "write -0.3%"),
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
