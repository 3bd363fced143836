"""The gate: does the study give what its config expects?"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from lorabench.errors import ConfigError
from lorabench.report.ledger import ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.config import Expectation
    from lorabench.report.talk import Row


def check_keys(expectations: Mapping[str, Expectation]) -> None:
    """Refuse an expectation of something that no ledger has.

    Raises:
        ConfigError: a key names no row; the valid ones are listed, the nearest first.
    """
    known = [row.key for row in ledger([])]
    unknown = [key for key in expectations if key not in known]
    if unknown:
        raise ConfigError(
            [f"expect.{key}  unknown key; known keys: {', '.join(_nearest(key, known))}" for key in unknown]
        )


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


def _unmet(wanted: Expectation, row: Row) -> str | None:
    within = f" within {wanted.tolerance:g}" if wanted.tolerance else ""
    expected = f"{row.key}  expected {wanted.value:,.10g}{within}"
    if row.value is None:
        return f"{expected}, and nothing measured it"
    # The slack is for decimal figures such as 97.78 that no float holds exactly.
    if abs(row.value - wanted.value) <= wanted.tolerance + 1e-9:
        return None
    return f"{expected}, got {row.value:,.10g}"


def _nearest(word: str, keys: Sequence[str]) -> list[str]:
    return sorted(keys, key=lambda key: -difflib.SequenceMatcher(None, word, key).ratio())
