"""The table of `lorabench ls`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from lorabench.report import number
from lorabench.report.arm import accuracy
from lorabench.report.layout import grid, note, stack
from lorabench.report.plain import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import RenderableType

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


def listing_data(runs: Sequence[Run], broken: Sequence[Broken] = ()) -> dict[str, Any]:
    """What `listing` shows, as plain data."""
    return {"runs": plain(entries(runs)), "broken": plain(list(broken))}


def listing(runs: Sequence[Run], broken: Sequence[Broken] = (), *, now: datetime, width: int = 80) -> RenderableType:
    """All runs, then why some have no result, then the folders that cannot be read.

    Args:
        runs: in the order to show them.
        broken: what `Store.scan` gives besides.
        now: the time that ages are counted to, with its time zone.
        width: in columns; what does not fit is dropped, except the id.
    """
    rows = entries(runs)
    cells = [_cells(row, now) for row in rows]
    columns = list(_COLUMNS)
    for name in _DROPPED:
        widest = {key: max(len(key), *(len(row[key]) for row in cells)) for key in columns} if cells else {}
        if sum(widest.values()) + 2 * len(columns) - 2 <= width:
            break
        columns.remove(name)
    table = grid(*columns, align="".join(_COLUMNS[name] for name in columns))
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(
            *(Text(texts[name], _STYLES.get(row.status, "red") if name == "status" else "") for name in columns)
        )
    failures = [f"{row.id}  {row.error}" for row in rows if row.error]
    unreadable = [f"{folder.id}  cannot be read: {folder.reason}" for folder in broken]
    lines = Text("\n".join([*failures, *unreadable]), "red", overflow="fold")
    return stack([table if rows else note("no runs"), lines if lines else None])


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
