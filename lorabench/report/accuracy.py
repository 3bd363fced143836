"""The study's 2x2 (base and tuned, MNIST and F-MNIST) and the parts of F-MNIST, with differences by seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from lorabench import stats
from lorabench.report import number
from lorabench.report.arm import SETS, SLICES, accuracy, base_metrics, bases, ways
from lorabench.report.layout import grid, note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from lorabench.report.arm import Arm
    from lorabench.runs import Metrics, Run
    from lorabench.stats import Estimate

NO_DIFFERENCE = "no detectable difference"


@dataclass(frozen=True)
class Difference:
    """Tuned − base, or one method − another, in points, paired by seed.

    `detectable`: whether the interval excludes 0; None with one seed. `p` is of the exact sign-flip test
    and cannot be below `smallest_p`; None with one seed, and with more seeds than that test takes.
    """

    estimate: Estimate
    detectable: bool | None
    p: float | None
    smallest_p: float | None


@dataclass(frozen=True)
class AccuracyRow:
    """Mean accuracy, in percent, per test set over the seeds. Bases have no `difference`."""

    label: str
    accuracy: dict[str, Estimate]
    difference: dict[str, Difference]


@dataclass(frozen=True)
class SliceRow:
    """Mean accuracy, in percent, on `n` images of F-MNIST's test set, before and after fine-tuning."""

    name: str
    n: int
    base: Estimate
    tuned: Estimate
    difference: Difference


def accuracy_rows(runs: Sequence[Run], arms: Sequence[Arm]) -> list[AccuracyRow]:
    """A row for each way in which bases were trained, usually one, then one for each arm, against its own bases."""
    known = bases(runs)
    rows = [AccuracyRow(label, _means(list(way.values())), {}) for label, way in ways(runs).items()]
    for arm in arms:
        pairs = [(base_metrics(run, known), run.metrics) for run in arm.runs]
        found = {name: difference([(value(old, name), value(new, name)) for old, new in pairs]) for name in SETS}
        gains = {name: value for name, value in found.items() if value}
        rows.append(AccuracyRow(arm.label, _means([new for _, new in pairs]), gains))
    return rows


def slice_rows(runs: Sequence[Run], arm: Arm) -> list[SliceRow]:
    """F-MNIST's parts that have images, for one arm."""
    known = bases(runs)
    rows: list[SliceRow] = []
    for name in SLICES:
        pairs = [(part(base_metrics(run, known), name), part(run.metrics, name)) for run in arm.runs]
        both = [(before, after) for before, after in pairs if before is not None and after is not None]
        if gain := difference(both):
            n = next(run.metrics["fmnist"].slices[name].n for run in arm.runs if part(run.metrics, name) is not None)
            base = stats.t_interval([before for before, _ in both])
            tuned = stats.t_interval([after for _, after in both])
            rows.append(SliceRow(name, n, base, tuned, gain))
    return rows


def value(metrics: Mapping[str, Metrics], name: str) -> float | None:
    """Accuracy in percent on the test set `name`; None if it was not measured."""
    return accuracy(metrics[name]) if name in metrics else None


def part(metrics: Mapping[str, Metrics], name: str) -> float | None:
    """Accuracy in percent on the part `name` of F-MNIST; None if it was not measured or has no images."""
    found = metrics["fmnist"].slices.get(name) if "fmnist" in metrics else None
    return 100 * found.correct / found.n if found and found.n else None


def _means(found: Sequence[Mapping[str, Metrics]]) -> dict[str, Estimate]:
    values = {name: [accuracy(metrics[name]) for metrics in found if name in metrics] for name in SETS}
    return {name: stats.t_interval(numbers) for name, numbers in values.items() if numbers}


def difference(pairs: Sequence[tuple[float | None, float | None]]) -> Difference | None:
    """Second - first of each pair, in the unit of the numbers; None if no pair is complete."""
    differences = [after - before for before, after in pairs if before is not None and after is not None]
    if not differences:
        return None
    found = stats.t_interval(differences)
    if found.low is None or found.high is None:
        return Difference(found, None, None, None)
    detectable = not found.low <= 0 <= found.high
    if len(differences) > stats.MOST_SIGN_FLIPS:
        return Difference(found, detectable, None, None)
    return Difference(found, detectable, *stats.sign_flip(differences))


def accuracy_table(rows: Sequence[AccuracyRow]) -> RenderableType:
    """The 2x2; below each difference whether there is one."""
    n = max((estimate.n for row in rows for estimate in row.accuracy.values()), default=0)
    table = grid("accuracy, %", *SETS.values(), align="<<<")
    for row in rows:
        table.add_row(row.label, *(_cell(row.accuracy.get(name), n) for name in SETS))
        if row.difference:
            cells = [_difference_cell(row.difference.get(name)) for name in SETS]
            table.add_row(Text(f"  {row.label.split(' ')[0]} - base", "dim"), *cells)
    return table


def _cell(value: Estimate | None, n: int) -> str:
    if value is None:
        return "not measured"
    return number.estimate(value) if value.n == n else f"{number.estimate(value)} n={value.n}"


def _difference_cell(value: Difference | None) -> Text:
    if value is None:
        return Text("")
    lines = Text(number.signed_estimate(value.estimate))
    if value.detectable is False:
        lines.append(f"\n{NO_DIFFERENCE}")
    elif value.p is not None:
        lines.append(f"\nsign-flip {number.p_value(value.p)}", "dim")
    return lines


def accuracy_note(rows: Sequence[AccuracyRow]) -> RenderableType:
    """What the numbers of the 2x2 are."""
    n = max((estimate.n for row in rows for estimate in row.accuracy.values()), default=0)
    if n == 1:
        return note("1 seed: no interval; run more seeds to compare")
    least = {d.smallest_p for row in rows for d in row.difference.values() if d.smallest_p is not None}
    floor = f"\n{n} seeds cannot give a sign-flip p below {min(least):.4f}" if least else ""
    return note(f"mean over {number.seeds(n)} [95% t interval]; differences are paired by seed{floor}")


def slice_table(rows: Sequence[SliceRow], label: str) -> RenderableType:
    """The parts of F-MNIST before and after."""
    table = grid("on F-MNIST, %", "images", "base", label, "difference", align="<>>><")
    for row in rows:
        table.add_row(
            SLICES[row.name],
            f"{row.n:,}",
            number.decimal(row.base.mean),
            number.decimal(row.tuned.mean),
            _difference_text(row.difference),
        )
    return table


def _difference_text(value: Difference) -> str:
    text = number.signed_estimate(value.estimate)
    return text if value.detectable is not False else f"{text}\n{NO_DIFFERENCE}"
