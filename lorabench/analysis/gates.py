"""`report --fail-on CONDITION`: which rows of a report meet the condition, and which do not say whether they do.

    condition = query.parse("fmnist.accuracy < 97.5% or fmnist.delta.low < -0.3%", suits)
    failing(condition, rows)     # ["lora-k1  fmnist.accuracy 97.1%, fmnist.delta.low -0.41%"]

A row has the fields of its run; a row of several seeds has the exact means of what was measured, and of what describes
its runs the value that all of them share. All rows but the baseline's have `<set>.delta.mean`, `.low`, `.high` and
`.p` besides: the difference from the baseline, a fraction, and its p as the report shows it. Sets are `mnist`,
`fmnist`, `fmnist.flipped`, ...

A gate passes only on what was measured: a value that a row should have and has not, a run that is not done, and one
that is not in any row fail it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from lorabench.analysis.groups import Groups, SettingRow
from lorabench.analysis.listing import check_names, fields, in_percent, measured
from lorabench.analysis.paired import Contrast
from lorabench.analysis.quantities import QUANTITIES, Quantity, compared, quantity_of
from lorabench.analysis.settings import pairs
from lorabench.errors import UsageError
from lorabench.query import Condition, Value
from lorabench.runs import Run

_ENDS = ("mean", "low", "high", "p")


def _names(stem: str) -> list[str]:
    return [f"{stem}.delta.{end}" for end in _ENDS]


def _delta_names() -> list[str]:
    return [name for quantity in compared() for name in _names(quantity.stem)]


@dataclass(frozen=True)
class GateRow:
    """A row of a report, by what the report calls it, and all that a condition can ask of it.

    Attributes:
        values: by name; a name that does not apply to the row, such as a delta to the baseline's, is null or not there.
        missing: name -> why the row has no value of it, though it should.
        lost: why the row has no values at all, such as a run that failed; None for the others.
    """

    label: str
    values: Mapping[str, Value]
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    lost: str | None = None


def run_rows(runs: Sequence[Run], accuracy: Sequence[Contrast] = ()) -> list[GateRow]:
    """A row for each run; the second of two has the differences of `accuracy`."""
    deltas: dict[str, Value] = {}
    for contrast in accuracy:
        first, second = contrast.first, contrast.second
        mean = Fraction(second.correct, second.n) - Fraction(first.correct, first.n)
        deltas |= _deltas(QUANTITIES[f"{contrast.name}.accuracy"], mean, contrast.low, contrast.high, contrast.p)
    why = dict.fromkeys(_delta_names(), f"nothing of {runs[0].id} to compare it with")
    why |= dict.fromkeys(deltas, "not compared image by image")
    checks = _checks(runs)
    rows = [
        _row(run.id, [run], checks, None if run is runs[0] else (deltas, why))
        for run in runs
        if run.status == "done" and run.stage != "fmnist"
    ]
    return rows + _unfinished(runs)


def group_rows(runs: Sequence[Run], groups: Groups, bases: Mapping[str, Run]) -> list[GateRow]:
    """A row for each row of `groups`, and one for each run that is in none of them.

    Args:
        runs: what `groups` was made of.
        groups: what `groups` gives.
        bases: by id, as `groups` takes them.
    """
    by_id = {run.id: run for run in runs}
    members = [[by_id[run.id] for run in row.setting.runs] for row in groups.rows]
    reference = [run for row, own in zip(groups.rows, members, strict=True) if row.baseline for run in own]
    checks = _checks(runs)
    rows = [
        _row(row.label, own, checks, None if row.baseline else _differences(row, pairs(own, reference, bases)))
        for row, own in zip(groups.rows, members, strict=True)
    ]
    shown = {run.id for own in members for run in own}
    doubles = [run for run in runs if run.status == "done" and run.stage != "fmnist" and run.id not in shown]
    rows += [GateRow(run.id, fields(run), lost="in no row: another run stands for its seed") for run in doubles]
    return rows + _unfinished(runs)


def failing(condition: Condition, rows: Sequence[GateRow], lost: Sequence[str] = ()) -> list[str]:
    """Why a gate does not pass, a line for each reason; none if it does.

    That is a row that meets `condition`, a value that the condition asks for and a row should have and has not, a run
    that has no result; and if there is nothing of these, that no row decides the condition.

    Args:
        condition: keeps to `fields.suits`.
        rows: what `run_rows` or `group_rows` gives.
        lost: lines about what was asked for and cannot be read.

    Raises:
        UsageError: no row knows a name of the condition, or values of different kinds are compared.
    """
    differences = set(_delta_names())
    check_names(condition.names, {name for row in rows for name in row.values} | differences)
    asked = [row for row in rows if row.lost is None]
    deltas = [name for name in condition.names if name in differences]
    lines = [*lost, *(f"{row.label}  {row.lost}" for row in rows if row.lost is not None)]
    if deltas and not lines and not any(name in row.values for name in deltas for row in asked):
        raise UsageError(f"{deltas[0]}: no row is compared with another one here; name more runs, or --baseline RUN")
    decided = [condition.decides(row.values) for row in asked]
    met = [f"{row.label}  {_told(condition, row)}" for row, met in zip(asked, decided, strict=True) if met]
    absent = [
        f"{row.label}  {name} is missing: {row.missing[name]}"
        for row in asked
        for name in condition.names
        if name in row.missing
    ]
    reasons = [*met, *absent, *lines]
    if reasons or any(decision is not None for decision in decided):
        return reasons
    nowhere = [name for name in condition.names if all(row.values.get(name) is None for row in asked)]
    return [f"{', '.join(nowhere or condition.names)}  no row has what decides it"]


def _told(condition: Condition, row: GateRow) -> str:
    known = {name: value for name in condition.names if (value := row.values.get(name)) is not None}
    return ", ".join(f"{name} {_shown(name, value)}" for name, value in known.items())


def _shown(name: str, value: Value) -> str:
    """With more digits than a table has: they tell on which side of the condition's number the value is."""
    if isinstance(value, bool) or not isinstance(value, Fraction | float | int):
        return str(value)
    return f"{float(100 * value):.6g}%" if in_percent(name) else f"{float(value):.10g}"


def _row(
    label: str,
    runs: Sequence[Run],
    checks: Mapping[str, set[str]],
    differences: tuple[Mapping[str, Value], Mapping[str, str]] | None,
) -> GateRow:
    """The row of finished `runs` of one stage; `differences` and why one may be missing, None for a baseline."""
    named, stage = [fields(run) for run in runs], runs[0].stage
    values: dict[str, Value] = {}
    missing: dict[str, str] = {}
    for name in dict.fromkeys([*(name for each in named for name in each), *sorted(checks[stage])]):
        given = [each.get(name) for each in named]
        of_runs = [None if isinstance(value, float) and not math.isfinite(value) else value for value in given]
        alike, came = all(value == of_runs[0] for value in of_runs), measured(name)
        values[name] = of_runs[0] if alike else _mean(of_runs) if came else None
        if values[name] is not None or not (_applies(name, stage) if came else not alike):
            continue
        without = ", ".join(run.id for run, value in zip(runs, of_runs, strict=True) if value is None)
        missing[name] = f"not measured in {without}" if without and came else "its runs differ in it"
    if differences:
        deltas, why = differences
        values |= dict.fromkeys(_delta_names()) | dict(deltas)
        missing |= {name: why[name] for name in _delta_names() if values[name] is None}
    return GateRow(label, values, missing)


def _unfinished(runs: Iterable[Run]) -> list[GateRow]:
    """A row for each run that is not done, of whatever stage: its values are not those of a result."""
    return [
        GateRow(run.id, fields(run), lost=f"{run.status}{f': {run.error.message}' if run.error else ''}")
        for run in runs
        if run.status != "done"
    ]


def _checks(runs: Iterable[Run]) -> dict[str, set[str]]:
    """Stage -> the names of the checks that its finished runs made of themselves; no record says which it should."""
    checks: dict[str, set[str]] = {}
    for run in runs:
        if run.status == "done":
            checks.setdefault(run.stage, set()).update(name for name in fields(run) if name.startswith("checks."))
    return checks


def _applies(name: str, stage: str) -> bool:
    """Whether a run of `stage` should have the measured field `name`. The checks that a row knows are its stage's."""
    quantity = quantity_of(name)
    return quantity is None or (stage != "fmnist" and (stage == "finetune" or not quantity.tuned))


def _mean(values: Sequence[Value]) -> Fraction | None:
    """The exact mean of numbers; None if one is missing or is no number."""
    numbers = [_exact(value) for value in values if not isinstance(value, str | bool) and value is not None]
    return sum(numbers, Fraction(0)) / len(numbers) if len(numbers) == len(values) else None


def _exact(value: Fraction | float) -> Fraction:
    """A float as the decimal that it is written as."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _differences(row: SettingRow, paired: Sequence[tuple[Run, Run]]) -> tuple[dict[str, Value], dict[str, str]]:
    """The deltas of a row, and for each delta why the row has none."""
    deltas: dict[str, Value] = {}
    why = dict.fromkeys(_delta_names(), "no run has a partner in the baseline")
    both = [(fields(other), fields(run)) for other, run in paired]
    for quantity in compared():
        gap, of = row.difference.get(quantity.stem), len(row.setting.runs)
        if gap is None:
            continue
        n = gap.estimate.n
        if n < of:
            lack = f"{of - n} of {of} runs have no partner in the baseline"
        else:
            before, after = (_mean([pair[side][quantity.key] for pair in both]) for side in (0, 1))
            mean = None if before is None or after is None else after - before
            deltas |= _deltas(quantity, mean, gap.estimate.low, gap.estimate.high, gap.holm)
            lack = f"no interval, {gap.estimate.lacks}"
        why |= dict.fromkeys(_names(quantity.stem), lack)
    return deltas, why


def _deltas(
    quantity: Quantity, mean: Value, low: float | None, high: float | None, p: float | None
) -> dict[str, Value]:
    """The mean in the unit of the field already; `low` and `high` of accuracies in points."""
    share = 100 if quantity.counts else 1
    ends = (None if end is None else _exact(end) / share for end in (low, high))
    return dict(zip(_names(quantity.stem), [mean, *ends, p], strict=True))
