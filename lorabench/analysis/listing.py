"""A run as flat, named values, and what `lorabench ls` shows of them: which runs, in which order, which fields.

    fields(run)["fmnist.flipped.accuracy"]    # Fraction(597, 613): the units of run.json, and exact
    fields(run)["lr"]                         # short for settings.lr
    suits(left, right)                        # whether a comparison is of one unit, for `query.parse`
    select(runs, where="k >= 4", sort="-fmnist.accuracy,k", limit=20, columns="id,k,fmnist.accuracy")

Names of what is measured are always there, null where a run has none; settings, checks and env are those of the run.
`report --fail-on` asks for the same fields, and CSV holds them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from lorabench import query
from lorabench.analysis import number
from lorabench.analysis.fairness import grounds
from lorabench.analysis.number import flatten, plain
from lorabench.analysis.quantities import (
    COUNT,
    NUMBER,
    POINTS,
    PROBABILITY,
    QUANTITIES,
    SHARE,
    Unit,
    at,
    described,
    quantity_of,
    shown_in,
)
from lorabench.errors import UsageError
from lorabench.query import Operand, Value
from lorabench.runs import Broken, Run

_RECORDED = (
    *("id", "stage", "method", "k", "seed", "study", "status", "started", "ended", "holdout"),
    *("parents.base", "parents.data", "error.type", "error.message"),
)
"""What every record says of its run, beside settings, checks, env and what was measured."""
_SHORT = {"parents.base": "base", "parents.data": "data", "error.message": "error"}
_ALIKE = 0.6
"""How alike a name must be to be suggested; difflib's own measure and default."""


def long_fields(run: Run) -> dict[str, Value]:
    """Every value of a run under its full name.

    `low` and `high` of an accuracy are no fields: they need scipy, and `ls` must answer at once.
    """
    named: dict[str, Value] = {name: at(name, run) for name in _RECORDED}
    for name, value in flatten({"settings": run.settings, "checks": run.checks, "env": run.env}).items():
        if isinstance(value, list | tuple):
            named[name] = ",".join(map(str, cast("list[Any]", value)))
        elif value is None or isinstance(value, str | int | float):
            named[name] = value
    for quantity in QUANTITIES.values():
        named |= quantity.fields(run)
    return named


def fields(run: Run) -> dict[str, Value]:
    """Every value that can be asked for, by its full name and by a shorter one where there is one."""
    named = long_fields(run)
    short = {name.removeprefix("settings."): value for name, value in named.items() if name.startswith("settings.")}
    return {**short, **named, **{name: named[full] for full, name in _SHORT.items()}}


def measured(name: str) -> bool:
    """Whether a field says what came of a run, so that it lacks something if it has none; the others describe it."""
    return name.startswith("checks.") or quantity_of(name) is not None


def unit(name: str) -> Unit:
    """The unit of the field `name`; of a difference, `fmnist.delta.low`, points or that of its quantity."""
    quantity = quantity_of(name)
    _, _, end = name.partition(".delta.")
    if end == "p":
        return PROBABILITY
    if quantity is None or (quantity.counts and name.endswith((".correct", ".n"))):
        return described(name)
    return POINTS if end and quantity.counts else quantity.unit


def in_percent(name: str) -> bool:
    """Whether a person reads the field in percent: shares and points are, probabilities are not."""
    return unit(name) in {SHARE, POINTS}


def suits(left: Operand, right: Operand) -> str | None:
    """What is wrong with comparing the two, for `query.parse`; None if nothing is."""
    names = [side for side in (left, right) if side.is_name]
    constants = [side for side in (left, right) if not side.is_name]
    if not names:
        return "no field is compared here, so it says nothing about a run"
    units = [unit(side.text) for side in names]
    if not constants:
        first, second = units
        alike = first == second or {first, second} == {COUNT, NUMBER}
        return None if alike else f"{left.text} is {first.noun}, {right.text} is {second.noun}"
    value, text = constants[0].constant, constants[0].text
    if isinstance(value, Fraction):
        problem = units[0].problem(value, text)
        return f"{text}: {names[0].text} is {problem}" if problem else None
    if value is not None and units[0] != NUMBER:
        return f"{names[0].text} is {units[0].noun}, {text} is no number"
    return None


def shown(name: str, value: Value) -> str:
    """A value as `ls` and the report show it: shares and points in percent; `-` where there is none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    if in_percent(name):
        return f"{number.decimal(float(100 * value))}%"
    return str(value) if isinstance(value, int) else f"{float(value):.6g}"


def check_names(wanted: Iterable[str], known: Iterable[str], hint: str = "") -> None:
    """Refuse the first of the `wanted` names that is not among the `known` ones; the message ends with `hint`.

    Raises:
        UsageError: it names those that are nearest.
    """
    names = set(known)
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=_ALIKE)
            meant = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"no run here has a field {name}{meant} (`lorabench ls --cols help` lists them){hint}")


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
    keys, names = _names("--sort", sort), _names("--cols", columns)
    named = [(run, fields(run) if condition or keys or names else {}) for run in runs]
    if runs:
        known = {name for _, values in named for name in values}
        check_names(condition.names if condition else (), known, hint="; a text stands in quotes")
        check_names([*(key.removeprefix("-") for key in keys), *names], known)
    if condition:
        named = [(run, values) for run, values in named if condition.holds(values)]
    fitting = len(named)
    for key in reversed(keys):
        named = _sorted(named, key.removeprefix("-"), falling=key.startswith("-"))
    if limit is not None:
        named = named[:limit] if keys else named[-limit:]
    rows = tuple(tuple(values.get(name) for name in names) for _, values in named) if names else ()
    return Selection(tuple(run for run, _ in named), fitting, len(runs), names, rows)


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
    columns = shown_in("runs")
    return [ListedRun(run, {quantity.key: quantity.fields(run)[quantity.key] for quantity in columns}) for run in runs]


def _entry_data(row: ListedRun) -> dict[str, Any]:
    """Accuracies in percent."""
    values = [(quantity.name, row.values[quantity.key]) for quantity in shown_in("runs")]
    return {
        **row.run.model_dump(include={"id", "status", "stage", "method", "k", "seed", "started"}),
        **{name: float(100 * value) if isinstance(value, Fraction) else value for name, value in values},
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


def _plain(value: Value) -> float | str | bool | None:
    return float(value) if isinstance(value, Fraction) else value
