"""The report of a study: accuracies, parts, parameters, confusions, and the talk's figures beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.report import confusion
from lorabench.report.accuracy import accuracy_note, accuracy_table, glance_table, slice_table
from lorabench.report.explain import introduced
from lorabench.report.fairness import held_out_note, unequal_note, unfinished_table
from lorabench.report.groups import methods_tables
from lorabench.report.ledger import ledger_note, ledger_table
from lorabench.report.plot import rank_plot
from lorabench.report.style import group, heading, note, stack
from lorabench.report.tables import size_table

if TYPE_CHECKING:
    from lorabench.analysis.settings import Collection
    from lorabench.analysis.study import Overview, Repair
    from lorabench.report.blocks import Block


def overview_report(study: Overview, runs: Collection) -> Block:
    """What `overview` found in the runs of a study, readable at 80 columns."""
    title = heading(study.study or "study", f"{number.seeds(len(study.seeds))}: {number.ranges(study.seeds)}")
    if not study.accuracy:
        return stack([title, note("no run of this study is finished"), unfinished_table(study.unfinished)])
    shown = {"base", *runs.bases_by_recipe, study.main} if study.methods else {row.label for row in study.accuracy}
    accuracies = [row for row in study.accuracy if row.label in shown]
    return stack(
        [
            title,
            held_out_note(runs),
            unfinished_table(study.unfinished),
            unequal_note(study.unequal),
            introduced(runs),
            glance_table(accuracies),
            slice_table(study.slices, study.main or "") if study.slices else None,
            size_table([row for row in study.parameters if row.label in shown]) if study.parameters else None,
            *(_confusions(study.confusion) if study.confusion else []),
            group(accuracy_table(accuracies), accuracy_note(accuracies)),
            methods_tables(study.methods, study.main or "") if study.methods else None,
            rank_plot(runs),
            group(ledger_table(study.ledger), ledger_note(study.ledger))
            if study.ledger
            else note("the talk's figures are of the test set, so nothing here stands beside them"),
        ]
    )


def _confusions(repair: Repair) -> list[Block]:
    over = "1 seed" if repair.seeds == 1 else f"summed over {repair.seeds} seeds"
    return [
        group(
            heading("confusion on F-MNIST", over),
            note("rows: true digit, columns: predicted; % of the true digit, . is under 0.5"),
        ),
        confusion.side_by_side(repair.before, repair.after, ("base", repair.label)),
        confusion.difference(repair.before, repair.after, f"{repair.label} - base, images"),
        confusion.changes_table(repair.changes),
    ]
