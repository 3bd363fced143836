"""The gate: does the study give what its config expects?

    expect: {params.total: 235146, fmnist.tuned: {value: 97.74%, tolerance: 0.8%}}

A figure is in the unit of its row in the ledger: percent, with the sign or without it, or a number without a unit.
"""

from __future__ import annotations

import difflib
from fractions import Fraction
from typing import TYPE_CHECKING

from lorabench.errors import ConfigError
from lorabench.report.ledger import ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.config import Expectation
    from lorabench.report.talk import Row

_COUNTED = ("params.total", "params.trainable", "flipped.train", "flipped.test")
_BARE = (*_COUNTED, "lora.birth")
"""The rows that are not in percent."""

_DIGITS = 9
"""Decimals of a row's value that mean something: an image of 10,000, over 1,000 seeds, is 0.00001 percent."""


def check_keys(expectations: Mapping[str, Expectation], places: Mapping[str, str] | None = None) -> None:
    """Refuse an expectation of something that no ledger has, or in another unit than the ledger has it.

    Args:
        expectations: the key of a ledger row, to what is expected of it.
        places: who wrote what, as `config.Loaded.origins` has it.

    Raises:
        ConfigError: with a line for each; of an unknown key with the valid ones, the nearest first.
    """
    if not expectations:
        return
    known = [row.key for row in ledger([])]
    problems: list[str] = []
    for key, wanted in expectations.items():
        place = (places or {}).get(f"expect.{key}")
        nearest = sorted(known, key=lambda name: -difflib.SequenceMatcher(None, key, name).ratio())
        unknown = f"unknown key; known keys: {', '.join(nearest)}" if key not in known else None
        if problem := unknown or _wrong_unit(key, wanted):
            problems.append(f"{f'{place}  ' if place else ''}expect.{key}  {problem}")
    if problems:
        raise ConfigError(problems)


def check(expectations: Mapping[str, Expectation], rows: Sequence[Row]) -> list[str]:
    """A line for each expectation that does not hold; none if all do.

    Args:
        expectations: the key of a ledger row, to a value in that row's unit and its tolerance.
        rows: the ledger. A row without a value, such as one that nothing measured, holds no expectation.

    Raises:
        ConfigError: as `check_keys`.
    """
    check_keys(expectations)
    known = {row.key: row for row in rows}
    return [line for key, wanted in expectations.items() if (line := _unmet(wanted, known[key]))]


def _wrong_unit(key: str, wanted: Expectation) -> str | None:
    value, percent = _figure(wanted.value), key not in _BARE
    written = f"{float(value):.10g}"
    if not percent and (isinstance(wanted.value, str) or isinstance(wanted.tolerance, str)):
        return "is not measured in percent; write numbers without %"
    if percent and not isinstance(wanted.value, str) and 0 < abs(value) <= 1:
        return f"{written}: is measured in percent; write {written}% or {float(100 * value):.10g}%"
    if key in _COUNTED and value.denominator != 1:
        return f"{written}: is a count; write a whole number"
    return None


def _unmet(wanted: Expectation, row: Row) -> str | None:
    value, tolerance = _figure(wanted.value), _figure(wanted.tolerance)
    sign = "" if row.key in _BARE else "%"
    points = f" point{'' if tolerance == 1 else 's'}" if sign else ""
    within = f" within {float(tolerance):g}{points}" if tolerance else ""
    expected = f"{row.key}  expected {float(value):,.10g}{sign}{within}"
    if row.value is None:
        return f"{expected}, and nothing measured it"
    if abs(Fraction(repr(round(row.value, _DIGITS))) - value) <= tolerance:
        return None
    return f"{expected}, got {row.value:,.10g}{sign}"


def _figure(given: float | str) -> Fraction:
    """In the unit of the row: 97.74 for `97.74%` and for 97.74."""
    return Fraction(given.removesuffix("%") if isinstance(given, str) else repr(given))
