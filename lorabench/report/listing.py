"""The table of `lorabench ls`."""

from __future__ import annotations

from fractions import Fraction
from numbers import Real
from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.analysis.fairness import grounds
from lorabench.analysis.fields import shown
from lorabench.analysis.listing import Entry, entries, fields_data
from lorabench.analysis.quantities import shown_in
from lorabench.report.blocks import Table
from lorabench.report.fairness import unequal_note
from lorabench.report.style import line, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from lorabench.analysis.selection import Selection
    from lorabench.query import Value
    from lorabench.report.blocks import Block
    from lorabench.runs import Broken, Run


_TEXTS = ("id", "status")
_DROPPED = ("seed", "k")
"""What a narrow terminal loses first: what the id says anyway. Then goes what was measured, the last column first."""
_KEPT = ("id", "F-MNIST", "status", "MNIST", "age")
"""What it loses last; the id never."""
_STYLES = {"done": "", "running": "yellow"}


def listing(chosen: Selection, broken: Sequence[Broken] = (), *, now: datetime, width: int = 80) -> Block:
    """The runs, then why some have no result, then the folders that cannot be read.

    Args:
        chosen: what `select` gives.
        broken: what `Store.scan` gives besides.
        now: the time that ages are counted to, with its time zone.
        width: in columns; what does not fit is dropped, except the id. Columns that were asked for stay.
    """
    rows = entries(chosen.runs)
    failures = [f"{row.run.id}  {row.error}" for row in rows if row.error]
    unreadable = [f"{folder.id}  cannot be read: {folder.reason}" for folder in broken]
    reasons = "\n".join([*failures, *unreadable])
    return stack(
        [
            (_asked(chosen) if chosen.columns else _usual(rows, now, width))
            if rows
            else note("no runs fit" if chosen.total else "no runs"),
            note(f"{len(rows):,} of {chosen.total:,} runs") if 0 < len(rows) < chosen.total else None,
            unequal_note(grounds(chosen.runs)),
            line(reasons, "red") if reasons else None,
        ]
    )


def fields_table(runs: Sequence[Run]) -> Block:
    """The names that `--where`, `--sort` and `--cols` take: in how many of the runs each is, and its newest value."""
    table = Table(("field", "runs", "newest value"), "<><", folds=False)
    for row in fields_data(runs)["fields"]:
        table.add_row(row["name"], str(row["runs"]), shown(row["name"], row["newest"]))
    return table


def _usual(rows: Sequence[Entry], now: datetime, width: int) -> Table:
    cells = [_cells(row, now) for row in rows]
    columns = list(cells[0])
    widest = {key: max(len(key), *(len(row[key]) for row in cells)) for key in columns}
    for name in (*_DROPPED, *(key for key in reversed(columns) if key not in (*_DROPPED, *_KEPT)), *_KEPT[:0:-1]):
        if sum(widest[key] + Table.gap for key in columns) - Table.gap <= width:
            break
        columns.remove(name)
    table = Table(tuple(columns), "".join("<" if name in _TEXTS else ">" for name in columns), folds=False)
    for row in cells:
        styles = {"status": _STYLES.get(row["status"], "red")}
        table.add_row(*(line(row[name], styles.get(name, "")) for name in columns))
    return table


def _asked(chosen: Selection) -> Table:
    numeric = [all(isinstance(value, Real | None) for value in column) for column in zip(*chosen.rows, strict=True)]
    sides = "".join(">" if number else "<" for number in numeric or [False] * len(chosen.columns))
    table = Table(tuple(chosen.columns), sides, folds=False)
    for row in chosen.rows:
        table.add_row(*map(shown, chosen.columns, row))
    return table


def _cells(row: Entry, now: datetime) -> dict[str, str]:
    run = row.run
    return {
        "id": run.id,
        "status": run.status,
        "k": "" if run.k is None else str(run.k),
        "seed": str(run.seed),
        **{q.columns["runs"].head: _measured(row.values[q.key]) for q in shown_in("runs")},
        "age": number.age(run.started, now),
    }


def _measured(value: Value) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Fraction):
        return number.decimal(float(100 * value))
    return f"{value:,}" if isinstance(value, int) else number.decimal(value)
