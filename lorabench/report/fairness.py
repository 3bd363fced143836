"""What makes a comparison unfair, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.report.style import grid, line, note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lorabench.analysis.fairness import Unequal, Unfinished
    from lorabench.report.blocks import Block
    from lorabench.runs import Run


NAMED = 3
"""How many rows a warning names for each value."""


def unequal_note(facts: Sequence[Unequal]) -> Block | None:
    """A line for each; None if there are none."""
    lines = [
        f"warning: not the same {fact.what}: "
        + "; ".join(f"{value} ({_names(labels)})" for value, labels in fact.values.items())
        for fact in facts
    ]
    return note("\n".join(lines)) if lines else None


def held_out_note(runs: Iterable[Run]) -> Block | None:
    """That `runs` were not measured on the test set; None if they were."""
    counts = sorted({run.holdout for run in runs if run.holdout})
    said = " or ".join(f"{count:,}" for count in counts)
    return note(f"measured on {said} images held out of the training set, not on the test set") if counts else None


def _names(labels: Sequence[str]) -> str:
    more = len(labels) - NAMED
    return ", ".join(labels[:NAMED]) + (f" and {more} more" if more > 0 else "")


def unfinished_table(rows: Sequence[Unfinished]) -> Block | None:
    """The runs without a result; None if there are none."""
    if not rows:
        return None
    table = grid("not finished", "", "", align="<<<")
    for row in rows:
        table.add_row(row.id, line(row.status, "red"), row.error)
    return table
