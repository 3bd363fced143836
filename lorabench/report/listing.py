"""The table of `lorabench ls`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from fractions import Fraction
from numbers import Real

from lorabench.analysis import number
from lorabench.analysis.fairness import grounds
from lorabench.analysis.listing import ListedRun, Selection, entries, fields_data, shown
from lorabench.analysis.quantities import shown_in
from lorabench.analysis.settings import told_apart
from lorabench.query import Value
from lorabench.report.blocks import Block, Table, line, note, stack
from lorabench.report.tables import unequal_note
from lorabench.runs import Broken, Run, Study, shortest

_TEXTS = ("id", "setting", "status")
_DROPPED = ("seed", "k")
"""What a narrow terminal loses first: what the id says anyway. Then goes what was measured, the last column first."""
_KEPT = ("id", "F-MNIST", "setting", "status", "MNIST", "age")
"""What it loses last; the id never."""
MOST_CHOICES = 20
"""So many runs that a name fits are shown, the newest."""
_STYLES = {"done": "", "running": "yellow"}


def listing(
    chosen: Selection, broken: Sequence[Broken] = (), *, now: datetime, width: int = 80, known: Sequence[Run] = ()
) -> Block:
    """The runs, then why some have no result, then the folders that cannot be read.

    Args:
        chosen: what `select` gives.
        broken: what `Store.scan` gives besides.
        now: the time that ages are counted to, with its time zone.
        width: in columns; what does not fit is dropped, except the id. Columns that were asked for stay.
        known: the runs that those of `chosen` were made from may be among these.
    """
    rows = entries(chosen.runs)
    failures = [f"{row.run.id}  {row.error}" for row in rows if row.error]
    unreadable = [f"{folder.id}  cannot be read: {folder.reason}" for folder in broken]
    reasons = "\n".join([*failures, *unreadable])
    return stack(
        [
            (_asked(chosen) if chosen.columns else _usual(rows, now, width, known))
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


def studies_table(
    studies: Sequence[Study], broken: Sequence[Broken], holds: Callable[[str], bool], now: datetime
) -> Block:
    """The studies, the one that ended last at the end, and the notes that cannot be read.

    `holds` says of an id whether there is such a run.
    """
    table = Table(("study", "kind", "runs", "gone", "ended"), "<<>>>", folds=False)
    for study in studies:
        gone = sum(not holds(run_id) for run_id in study.runs)
        age = number.age(study.ended, now)
        table.add_row(
            study.name, study.kind, f"{len(study.runs):,}", f"{gone:,}" if gone else "", f"{age} ago" * bool(age)
        )
    reasons = "\n".join(note.reason for note in broken)
    return stack([table if studies else note("no studies"), line(reasons, "red") if reasons else None])


def choices(name: str, fitting: Sequence[Run], known: Sequence[Run], now: datetime) -> str:
    """Which runs a name fits that should fit one: the shortest name of each, what differs, accuracy and age.

    Args:
        name: as the user wrote it.
        fitting: the runs that it fits, oldest first.
        known: all runs.
        now: the time that ages are counted to.
    """
    shown_runs, ids = fitting[: -MOST_CHOICES - 1 : -1], [run.id for run in known]
    apart, several = told_apart(fitting, known), len({run.study for run in fitting}) > 1
    rows = [
        (
            shortest(run.id, ids),
            " ".join(filter(None, [apart[run.id], f"study={run.study}" if several and run.study else ""])),
            f"F-MNIST {100 * run.metrics['fmnist'].accuracy:.2f}%" if "fmnist" in run.metrics else run.status,
            f"{number.age(run.started, now)} ago" if run.started else "",
        )
        for run in shown_runs
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(["", *map(str.ljust, row, widths)]).rstrip() for row in rows]
    more = [f"  and {len(fitting) - len(rows)} older ones"] if len(fitting) > len(rows) else []
    return "\n".join([f"{name} fits {len(fitting)} runs; name one of them, or all by '{name}*'", *lines, *more])


def _usual(rows: Sequence[ListedRun], now: datetime, width: int, known: Sequence[Run]) -> Table:
    apart = told_apart([row.run for row in rows], known)
    cells = [_cells(row, now, apart[row.run.id]) for row in rows]
    columns = [key for key in cells[0] if key != "setting" or any(apart.values())]
    widest = {key: max(len(key), *(len(row[key]) for row in cells)) for key in columns}
    for name in (*_DROPPED, *(key for key in reversed(columns) if key not in (*_DROPPED, *_KEPT)), *_KEPT[:0:-1]):
        if sum(widest[key] + Table.gap for key in columns) - Table.gap <= width:
            break
        columns = [key for key in columns if key != name]
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


def _cells(row: ListedRun, now: datetime, setting: str) -> dict[str, str]:
    run = row.run
    return {
        "id": run.id,
        "setting": setting,
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
