"""The report of a study: accuracies, parts, parameters, confusions, and the talk's figures beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.report import confusion, number
from lorabench.report.accuracy import (
    AccuracyRow,
    SliceRow,
    accuracy_note,
    accuracy_rows,
    accuracy_table,
    slice_rows,
    slice_table,
)
from lorabench.report.arm import arms, base_metrics, bases, main_arm, ways
from lorabench.report.fairness import grounds, held_out_note, unequal_note
from lorabench.report.ledger import ledger, ledger_note, ledger_table
from lorabench.report.methods import MethodRow, method_rows, methods_tables
from lorabench.report.parameters import SizeRow, size_rows, size_table
from lorabench.report.plain import plain
from lorabench.report.plot import rank_plot
from lorabench.report.style import grid, group, heading, line, note, stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.report.arm import Arm, OnImages
    from lorabench.report.blocks import Block
    from lorabench.report.fairness import Unequal
    from lorabench.report.talk import Row
    from lorabench.runs import Metrics, Run


@dataclass(frozen=True)
class Repair:
    """The main arm's confusions on F-MNIST, before and after, summed over its seeds."""

    label: str
    seeds: int
    before: list[list[int]]
    after: list[list[int]]
    changes: list[confusion.Change]


@dataclass(frozen=True)
class Unfinished:
    """A run that has no result, and why, as far as it is known."""

    id: str
    status: str
    error: str


@dataclass(frozen=True)
class Overview:
    """Everything that the report of a study shows. `main` is the arm whose parts and confusions it shows.

    `methods` has a row for each arm if there are several; the tables then show the main arm alone elsewhere.
    `unequal` says which runs were made with another lorabench, torch, device or kind of machine.
    `ledger` is empty for a study that was measured on held-out images: the talk's figures are of the test set.
    """

    study: str | None
    seeds: list[int]
    main: str | None
    accuracy: list[AccuracyRow]
    slices: list[SliceRow]
    parameters: list[SizeRow]
    confusion: Repair | None
    methods: list[MethodRow]
    ledger: list[Row]
    unfinished: list[Unfinished]
    unequal: list[Unequal]


def overview(study_runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> Overview:
    """The report's rows. `study_runs` holds the study's runs with their parents, in any order."""
    found = arms(study_runs)
    main = main_arm(found)
    trained = [run for run in study_runs if run.stage != "fmnist"]
    return Overview(
        study=next((run.study for run in reversed(study_runs) if run.study), None),
        seeds=sorted({run.seed for run in trained if run.status == "done"}),
        main=main.label if main else None,
        accuracy=accuracy_rows(study_runs, found),
        slices=slice_rows(study_runs, main) if main else [],
        parameters=size_rows(study_runs, found),
        confusion=_repair(main, bases(study_runs)) if main else None,
        methods=method_rows(study_runs, found),
        ledger=[] if any(run.holdout for run in study_runs) else ledger(study_runs, bench),
        unfinished=unfinished(study_runs),
        unequal=grounds(study_runs),
    )


def unfinished(runs: Sequence[Run]) -> list[Unfinished]:
    """The runs among `runs` that are not done."""
    return [Unfinished(run.id, run.status, _reason(run)) for run in runs if run.status != "done"]


def _reason(run: Run) -> str:
    return f"{run.error.type}: {run.error.message}" if run.error else ""


def _repair(arm: Arm, known: Mapping[OnImages, Mapping[str, Metrics]]) -> Repair | None:
    pairs = [(base_metrics(run, known), run.metrics) for run in arm.runs]
    both = [(old["fmnist"], new["fmnist"]) for old, new in pairs if "fmnist" in old and "fmnist" in new]
    if not both:
        return None
    before = confusion.add(old.confusion for old, _ in both)
    after = confusion.add(new.confusion for _, new in both)
    return Repair(arm.label, len(both), before, after, confusion.largest_changes(before, after))


def study_data(study_runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The report of a study as plain data."""
    return plain(overview(study_runs, bench))


def study_report(study_runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> Block:
    """The report of a study, readable at 80 columns."""
    found = overview(study_runs, bench)
    title = heading(found.study or "study", f"{number.seeds(len(found.seeds))}: {number.ranges(found.seeds)}")
    if not found.accuracy:
        return stack([title, note("no run of this study is finished"), unfinished_table(found.unfinished)])
    shown = {"base", *ways(study_runs), found.main} if found.methods else {row.label for row in found.accuracy}
    accuracies = [row for row in found.accuracy if row.label in shown]
    return stack(
        [
            title,
            held_out_note(study_runs),
            unfinished_table(found.unfinished),
            unequal_note(found.unequal),
            group(accuracy_table(accuracies), accuracy_note(accuracies)),
            slice_table(found.slices, found.main or "") if found.slices else None,
            size_table([row for row in found.parameters if row.label in shown]) if found.parameters else None,
            *(_confusions(found.confusion) if found.confusion else []),
            methods_tables(found.methods, found.main or "") if found.methods else None,
            rank_plot(study_runs),
            group(ledger_table(found.ledger), ledger_note(found.ledger))
            if found.ledger
            else note("the talk's figures are of the test set, so nothing here stands beside them"),
        ]
    )


def _confusions(found: Repair) -> list[Block]:
    over = "1 seed" if found.seeds == 1 else f"summed over {found.seeds} seeds"
    return [
        group(
            heading("confusion on F-MNIST", over),
            note("rows: true digit, columns: predicted; % of the true digit, . is under 0.5"),
        ),
        confusion.side_by_side(found.before, found.after, ("base", found.label)),
        confusion.difference(found.before, found.after, f"{found.label} - base, images"),
        confusion.changes_table(found.changes),
    ]


def unfinished_table(rows: Sequence[Unfinished]) -> Block | None:
    """The runs without a result; None if there are none."""
    if not rows:
        return None
    table = grid("not finished", "", "", align="<<<")
    for row in rows:
        table.add_row(row.id, line(row.status, "red"), row.error)
    return table
