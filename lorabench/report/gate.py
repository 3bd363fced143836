"""`report --fail-on CONDITION`: which rows of a report meet the condition, and with which values.

    condition = query.parse("fmnist.accuracy < 97.5% or fmnist.delta.low < -0.3%")
    failing(condition, rows)     # ["lora-k1  fmnist.accuracy 0.971, fmnist.delta.low -0.0041"]

A row has the fields of its run; a row of several seeds has their means, and of what is no number the value that all
of them share. All rows but the baseline's have `<set>.delta.mean`, `.low`, `.high` and `.p` besides: the difference
from the baseline, a fraction, and its p as the report shows it. Sets are `mnist`, `fmnist`, `fmnist.flipped`, ...
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabench.errors import UsageError
from lorabench.report.fields import check_names, fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.query import Condition, Value
    from lorabench.report.contrast import Contrast
    from lorabench.report.groups import GroupRow, Groups
    from lorabench.runs import Run


@dataclass(frozen=True)
class GateRow:
    """A row of a report, by what the report calls it, and all that a condition can ask of it."""

    label: str
    values: Mapping[str, Value]


def run_rows(runs: Sequence[Run], accuracy: Sequence[Contrast] = ()) -> list[GateRow]:
    """A row for each run; the last one has the differences of `accuracy`."""
    rows = [fields(run) for run in runs]
    for contrast in accuracy:
        ends = {"mean": contrast.difference, "low": contrast.low, "high": contrast.high}
        rows[-1] |= {f"{contrast.name}.delta.{key}": value / 100 for key, value in ends.items()}
        rows[-1][f"{contrast.name}.delta.p"] = contrast.p
    return [GateRow(run.id, values) for run, values in zip(runs, rows, strict=True)]


def group_rows(runs: Sequence[Run], found: Groups) -> list[GateRow]:
    """A row for each row of `found`, which was made of `runs`, and one for each run that is not finished."""
    by_id = {run.id: run for run in runs}
    rows = [GateRow(row.label, _means([by_id[run_id] for run_id in row.runs]) | _deltas(row)) for row in found.rows]
    return rows + run_rows([by_id[one.id] for one in found.unfinished])


def failing(condition: Condition, rows: Sequence[GateRow]) -> list[str]:
    """A line for each row that meets `condition`, and for each name that it asks for and no row has a value of.

    The latter because a gate that nothing was measured for must not pass.

    Raises:
        UsageError: no row knows a name of the condition, or values of different kinds are compared.
    """
    known = {name for row in rows for name in row.values}
    deltas = [name for name in condition.names if ".delta." in name]
    if deltas and not any(".delta." in name for name in known):
        raise UsageError(f"{deltas[0]}: no row is compared with another one here; name more runs, or --baseline RUN")
    check_names(condition.names, known)
    absent = [name for name in condition.names if all(row.values.get(name) is None for row in rows)]
    return [f"{row.label}  {_told(condition, row)}" for row in rows if condition.holds(row.values)] + [
        f"{name}  nothing measured it" for name in absent
    ]


def _told(condition: Condition, row: GateRow) -> str:
    there = {name: row.values[name] for name in condition.names if row.values.get(name) is not None}
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in there.items()
    )


def _means(runs: Sequence[Run]) -> dict[str, Value]:
    each = [fields(run) for run in runs]
    return {
        name: _mean([values.get(name) for values in each]) for name in dict.fromkeys(n for one in each for n in one)
    }


def _mean(values: Sequence[Value]) -> Value:
    """The value that all share, or the mean of the numbers that there are; None where it is neither."""
    if all(value == values[0] for value in values):
        return values[0]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    whole = len(numbers) == sum(value is not None for value in values)
    return math.fsum(numbers) / len(numbers) if numbers and whole else None


def _deltas(row: GroupRow) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, gap in row.difference.items():
        ends = {"mean": gap.estimate.mean, "low": gap.estimate.low, "high": gap.estimate.high}
        found |= {f"{key}.delta.{name}": None if end is None else end / 100 for name, end in ends.items()}
        found[f"{key}.delta.p"] = gap.holm
    return found
