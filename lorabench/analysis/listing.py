"""What `lorabench ls` shows: which runs, in which order, which of their fields, and each as a row.

select(runs, where="k >= 4", sort="-fmnist.accuracy,k", limit=20, columns="id,k,fmnist.accuracy")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lorabench import query
from lorabench.analysis.fairness import grounds
from lorabench.analysis.fields import check_names, fields, suits
from lorabench.analysis.plain import plain
from lorabench.analysis.quantities import QUANTITIES, shown_in
from lorabench.errors import UsageError
from lorabench.query import Value
from lorabench.runs import Broken, Run


@dataclass(frozen=True)
class Selection:
    """`runs` in the order to show, the first `limit` of those that are `fitting`, of `total`.

    `columns` are the fields to show and `rows` their values; without columns there are no rows.
    """

    runs: tuple[Run, ...]
    fitting: int
    total: int
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()


def select(
    runs: Sequence[Run],
    *,
    where: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    columns: str | None = None,
) -> Selection:
    """Choose among `runs`, which come oldest first.

    Args:
        runs: all there are.
        where: a condition on `fields`, numbers as `unit` has them; None: all runs.
        sort: fields, `,` between them, `-` before those that fall; None: oldest first. Runs that lack a field come
            last, and equal ones stay oldest first.
        limit: how many at most: the first ones of `sort`, without it the newest.
        columns: fields, `,` between them.

    Raises:
        UsageError: the condition is none or has a number of another unit, or a field is not there.
    """
    condition = query.parse(where, suits) if where is not None else None
    keys, shown = _names("--sort", sort), _names("--cols", columns)
    named = [(run, fields(run) if condition or keys or shown else {}) for run in runs]
    if runs:
        known = {name for _, values in named for name in values}
        check_names(condition.names if condition else (), known, hint="; a text stands in quotes")
        check_names([*(key.removeprefix("-") for key in keys), *shown], known)
    if condition:
        named = [(run, values) for run, values in named if condition.holds(values)]
    fitting = len(named)
    for key in reversed(keys):
        named = _sorted(named, key.removeprefix("-"), falling=key.startswith("-"))
    if limit is not None:
        named = named[:limit] if keys else named[-limit:]
    rows = tuple(tuple(values.get(name) for name in shown) for _, values in named) if shown else ()
    return Selection(tuple(run for run, _ in named), fitting, len(runs), shown, rows)


def _names(option: str, text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    if "" in names or "-" in names:
        raise UsageError(f"{option} {text!r}: write names with commas between them, e.g. id,k,fmnist.accuracy")
    return names


def _sorted(
    named: list[tuple[Run, dict[str, Value]]], name: str, *, falling: bool
) -> list[tuple[Run, dict[str, Value]]]:
    """Stable, also where it falls; texts come after numbers, and what has no order comes last."""

    def place(item: tuple[Run, dict[str, Value]]) -> tuple[bool, float, str]:
        value = item[1][name]
        return (True, 0.0, value) if isinstance(value, str) else (False, float(value or 0), "")

    def lacks(value: Value) -> bool:
        return value is None or (isinstance(value, float) and math.isnan(value))

    ordered = [item for item in named if not lacks(item[1].get(name))]
    return [*sorted(ordered, key=place, reverse=falling), *(item for item in named if lacks(item[1].get(name)))]


@dataclass(frozen=True)
class ListedRun:
    """One run and what it measured, by the keys of quantities; None where it measured nothing."""

    run: Run
    values: dict[str, Value]

    @property
    def error(self) -> str | None:
        """Why it has no result."""
        return f"{self.run.error.type}: {self.run.error.message}" if self.run.error else None


def entries(runs: Sequence[Run]) -> list[ListedRun]:
    """A row for every run, in the given order."""
    shown = shown_in("runs")
    return [ListedRun(run, {quantity.key: quantity.fields(run)[quantity.key] for quantity in shown}) for run in runs]


def _entry_data(row: ListedRun) -> dict[str, Any]:
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
