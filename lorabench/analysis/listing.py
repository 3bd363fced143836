"""The table of `lorabench ls`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lorabench.analysis.fairness import grounds
from lorabench.analysis.fields import fields
from lorabench.analysis.plain import plain
from lorabench.analysis.quantities import QUANTITIES, shown_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.selection import Selection
    from lorabench.query import Value
    from lorabench.runs import Broken, Run


@dataclass(frozen=True)
class Entry:
    """One run and what it measured, by the keys of quantities; None where it measured nothing."""

    run: Run
    values: dict[str, Value]

    @property
    def error(self) -> str | None:
        """Why it has no result."""
        return f"{self.run.error.type}: {self.run.error.message}" if self.run.error else None


def entries(runs: Sequence[Run]) -> list[Entry]:
    """A row for every run, in the given order."""
    shown = shown_in("runs")
    return [Entry(run, {quantity.key: quantity.fields(run)[quantity.key] for quantity in shown}) for run in runs]


def _entry_data(row: Entry) -> dict[str, Any]:
    """Accuracies in percent."""
    run, shown = row.run, shown_in("runs")
    values = {quantity.name: _percent(row.values[quantity.key]) for quantity in shown}
    return {
        **run.model_dump(include={"id", "status", "stage", "method", "k", "seed", "started"}),
        **values,
        "trainable": row.values["params.trainable"],
        "error": row.error,
    }


def listing_data(chosen: Selection, broken: Sequence[Broken] = ()) -> dict[str, Any]:
    """What `listing` shows, as plain data; with columns, each run is those fields in the units of run.json."""
    asked = [dict(zip(chosen.columns, map(_plain, row), strict=True)) for row in chosen.rows]
    return {
        "runs": asked if chosen.columns else [_entry_data(row) for row in entries(chosen.runs)],
        "fitting": chosen.fitting,
        "total": chosen.total,
        "unequal": plain(grounds(chosen.runs)),
        "broken": plain(list(broken)),
    }


def fields_data(runs: Sequence[Run]) -> dict[str, Any]:
    """What `fields_table` shows, as plain data, and which way is better. `runs` come oldest first."""
    values: dict[str, list[Value]] = {}
    for run in runs:
        for name, value in fields(run).items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return {
        "fields": [
            {
                "name": name,
                "runs": len(known),
                "newest": _plain(known[-1]) if known else None,
                "better": quantity.better if (quantity := QUANTITIES.get(name)) else None,
            }
            for name, known in sorted(values.items())
        ]
    }


def _percent(value: Value) -> Value:
    return float(100 * value) if isinstance(value, Fraction) else value


def _plain(value: Value) -> float | str | bool | None:
    return float(value) if isinstance(value, Fraction) else value
