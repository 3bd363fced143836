"""The table of `lorabench ls`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import TYPE_CHECKING, Any

from lorabench.report import number
from lorabench.report.arm import accuracy
from lorabench.report.blocks import Table
from lorabench.report.fairness import grounds, unequal_note
from lorabench.report.fields import fields
from lorabench.report.plain import plain
from lorabench.report.style import line, note, stack
from lorabench.report.unit import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from lorabench.query import Value
    from lorabench.report.blocks import Block
    from lorabench.report.selection import Selection
    from lorabench.runs import Broken, Run

_COLUMNS = {
    "id": "<",
    "status": "<",
    "k": ">",
    "seed": ">",
    "MNIST": ">",
    "F-MNIST": ">",
    "trained": ">",
    "age": ">",
}
_DROPPED = ("seed", "k", "trained", "age", "MNIST", "status", "F-MNIST")
"""What a narrow terminal loses first: what the id says anyway. The id itself is never dropped."""

_STYLES = {"done": "", "running": "yellow"}


@dataclass(frozen=True)
class Entry:
    """One run; accuracies in percent, None where there are none."""

    id: str
    status: str
    stage: str
    method: str | None
    k: int | None
    seed: int
    mnist: float | None
    fmnist: float | None
    trainable: int | None
    started: str
    error: str | None


def entries(runs: Sequence[Run]) -> list[Entry]:
    """A row for every run, in the given order."""
    return [
        Entry(
            id=run.id,
            status=run.status,
            stage=run.stage,
            method=run.method,
            k=run.k,
            seed=run.seed,
            mnist=accuracy(run.metrics["mnist"]) if "mnist" in run.metrics else None,
            fmnist=accuracy(run.metrics["fmnist"]) if "fmnist" in run.metrics else None,
            trainable=run.params.trainable if run.params else None,
            started=run.started,
            error=f"{run.error.type}: {run.error.message}" if run.error else None,
        )
        for run in runs
    ]


def listing_data(chosen: Selection, broken: Sequence[Broken] = ()) -> dict[str, Any]:
    """What `listing` shows, as plain data; with columns, each run is those fields in the units of run.json."""
    asked = [dict(zip(chosen.columns, map(_plain, row), strict=True)) for row in chosen.rows]
    return {
        "runs": asked if chosen.columns else plain(entries(chosen.runs)),
        "fitting": chosen.fitting,
        "total": chosen.total,
        "unequal": plain(grounds(chosen.runs)),
        "broken": plain(list(broken)),
    }


def listing(chosen: Selection, broken: Sequence[Broken] = (), *, now: datetime, width: int = 80) -> Block:
    """The runs, then why some have no result, then the folders that cannot be read.

    Args:
        chosen: what `select` gives.
        broken: what `Store.scan` gives besides.
        now: the time that ages are counted to, with its time zone.
        width: in columns; what does not fit is dropped, except the id. Columns that were asked for stay.
    """
    rows = entries(chosen.runs)
    table = _asked(chosen) if chosen.columns else _usual(rows, now, width)
    failures = [f"{row.id}  {row.error}" for row in rows if row.error]
    unreadable = [f"{folder.id}  cannot be read: {folder.reason}" for folder in broken]
    reasons = "\n".join([*failures, *unreadable])
    return stack(
        [
            table if rows else note("no runs fit" if chosen.total else "no runs"),
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


def fields_data(runs: Sequence[Run]) -> dict[str, Any]:
    """What `fields_table` shows, as plain data. `runs` come oldest first."""
    values: dict[str, list[Value]] = {}
    for run in runs:
        for name, value in fields(run).items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return {
        "fields": [
            {"name": name, "runs": len(there), "newest": _plain(there[-1]) if there else None}
            for name, there in sorted(values.items())
        ]
    }


def _usual(rows: Sequence[Entry], now: datetime, width: int) -> Table:
    cells = [_cells(row, now) for row in rows]
    columns = list(_COLUMNS)
    widest = {key: max(len(key), *(len(row[key]) for row in cells)) if cells else len(key) for key in columns}
    for name in _DROPPED:
        if sum(widest[key] + Table.gap for key in columns) - Table.gap <= width:
            break
        columns.remove(name)
    table = Table(tuple(columns), "".join(_COLUMNS[name] for name in columns), folds=False)
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


def _plain(value: Value) -> float | str | bool | None:
    return float(value) if isinstance(value, Fraction) else value


def _cells(row: Entry, now: datetime) -> dict[str, str]:
    values = (
        row.id,
        row.status,
        "" if row.k is None else str(row.k),
        str(row.seed),
        *("" if value is None else number.decimal(value) for value in (row.mnist, row.fmnist)),
        "" if row.trainable is None else f"{row.trainable:,}",
        number.age(row.started, now),
    )
    return dict(zip(_COLUMNS, values, strict=True))
