"""The table of `lorabench ls`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lorabench.analysis.fairness import grounds
from lorabench.analysis.fields import fields
from lorabench.analysis.plain import plain
from lorabench.analysis.settings import accuracy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.selection import Selection
    from lorabench.query import Value
    from lorabench.runs import Broken, Run


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


def _plain(value: Value) -> float | str | bool | None:
    return float(value) if isinstance(value, Fraction) else value
