"""The report of a study: accuracies, parts, parameters, confusions, and the talk's figures beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.report import confusion
from lorabench.report.accuracy import accuracy_note, accuracy_table, slice_table
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


def overview_report(found: Overview, runs: Collection) -> Block:
    """What `overview` found in the runs of a study, readable at 80 columns."""
    title = heading(found.study or "study", f"{number.seeds(len(found.seeds))}: {number.ranges(found.seeds)}")
    if not found.accuracy:
        return stack([title, note("no run of this study is finished"), unfinished_table(found.unfinished)])
    shown = {"base", *runs.bases_by_recipe, found.main} if found.methods else {row.label for row in found.accuracy}
    accuracies = [row for row in found.accuracy if row.label in shown]
    return stack(
        [
            title,
            held_out_note(runs),
            unfinished_table(found.unfinished),
            unequal_note(found.unequal),
            group(accuracy_table(accuracies), accuracy_note(accuracies)),
            slice_table(found.slices, found.main or "") if found.slices else None,
            size_table([row for row in found.parameters if row.label in shown]) if found.parameters else None,
            *(_confusions(found.confusion) if found.confusion else []),
            methods_tables(found.methods, found.main or "") if found.methods else None,
            rank_plot(runs),
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
