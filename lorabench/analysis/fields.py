"""A run as flat, named values: what `ls --where`, `--sort` and `--cols` and `report --fail-on` speak of, and CSV holds.

    fields(run)["fmnist.flipped.accuracy"]    # Fraction(597, 613): the units of run.json, and exact
    fields(run)["lr"]                         # short for settings.lr
    suits(left, right)                        # whether a comparison is of one unit, for `query.parse`

Names of what is measured are always there, null where a run has none; settings, checks and env are those of the run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, cast

from lorabench.analysis import number
from lorabench.analysis.plain import flatten
from lorabench.analysis.quantities import QUANTITIES, at, quantity_of
from lorabench.analysis.unit import COUNT, NUMBER, POINTS, PROBABILITY, SHARE, Unit, described
from lorabench.errors import UsageError
from lorabench.query import Operand, Value
from lorabench.runs import Run

HELP = "(`lorabench ls --cols help` lists them)"
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
            raise UsageError(f"no run here has a field {name}{meant} {HELP}{hint}")
