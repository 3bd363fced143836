"""Shifts of the data: what makes F-MNIST of MNIST.

    contract.py    what a shift is
    mirror.py      images are mirrored: the shift of the talk

A shift is a file with its entry, and a line in `SHIFTS`; `fmnist.shift` chooses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lorabench.data.shifts import mirror
from lorabench.data.shifts.contract import Shift, ShiftOptions

__all__ = ["FIRST", "SHIFTS", "Shift", "ShiftOptions", "keys", "named", "of", "parse"]

FIRST = "mirror"
"""The shift of settings that name none: records and ids are older than the name."""

SHIFTS: dict[str, Shift] = {
    FIRST: mirror.SHIFT,
}


def named(settings: Mapping[str, Any]) -> Shift:
    """The shift that the settings of an F-MNIST name.

    Raises:
        ValueError: there is none of this name.
    """
    name = settings.get("shift", FIRST)
    if not isinstance(name, str) or name not in SHIFTS:
        raise ValueError(f"no shift is called {name!r}; known: {', '.join(SHIFTS)}")
    return SHIFTS[name]


def of(options: ShiftOptions) -> Shift:
    """The shift whose options these are."""
    return next(shift for shift in SHIFTS.values() if type(options) is shift.options)


def parse(settings: Any) -> Any:
    """Settings as the options of the shift that they name; what is no mapping stays.

    Raises:
        ValueError: there is no such shift, or (pydantic's ValidationError) it has other options.
    """
    if not isinstance(settings, dict):
        return settings
    values = cast("dict[str, Any]", settings)
    shift = named(values)
    own = {key: value for key, value in values.items() if key != "shift" or key in shift.options.model_fields}
    return shift.options.model_validate(own)


def keys(settings: Any) -> list[str]:
    """The keys that settings like these may have; those of the first shift where they name none that there is."""
    try:
        fields = named(settings).options.model_fields
    except (AttributeError, ValueError):
        fields = SHIFTS[FIRST].options.model_fields
    return [*(["shift"] if len(SHIFTS) > 1 else []), *(key for key in fields if key != "shift")]
