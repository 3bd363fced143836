"""Quantities over the seeds of a setting, and differences between settings: the one place that forms them.

over_seeds(quantity, [quantity.of(run) for run in setting.runs])      # 97.78 [97.69, 97.87]
differences([(other, run), ...])                                      # of every quantity that is compared
by_key([differences(pairs) for pairs in ...])                         # the same, corrected for the number of rows
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lorabench.analysis import inference, number
from lorabench.analysis.inference import Difference, Estimate
from lorabench.analysis.quantities import Count, Lost, Measured, Quantity, compared, count, shown_in
from lorabench.runs import Metrics, Run

Folded = Estimate | float | bool
"""What a setting has of a quantity: a mean over its seeds, or what all of them share."""

NO_DIFFERENCE = "no detectable difference"
AFTER_HOLM = "not detectable after Holm"
"""Of a difference whose own interval excludes 0, and whose p does not hold for so many rows."""


def over_seeds(quantity: Quantity, values: Iterable[Measured | None]) -> Folded | None:
    """What the values of a setting's seeds are together: percent for accuracies, points for what was lost, else as is.

    None where nothing was measured, and where seeds that should share a value do not.
    """
    known = [value for value in values if value is not None]
    numbers = [value for value in known if not isinstance(value, Count | Lost)]
    if quantity.shared:
        return numbers[0] if numbers and all(value == numbers[0] for value in numbers) else None
    if quantity.counts:
        return accuracy([value for value in known if isinstance(value, Count)])
    if lost := inference.difference([(value.after, value.before) for value in known if isinstance(value, Lost)]):
        return lost.estimate
    return inference.mean(numbers)


def accuracy(counts: Iterable[Count | None]) -> Estimate | None:
    """The mean accuracy in percent of the seeds that were measured on some images."""
    return inference.accuracy([each for each in counts if each and each.n])


def means(runs: Sequence[Run], quantities: Iterable[Quantity]) -> dict[str, Folded]:
    """By key, each quantity over the runs of a setting, as far as they measured it."""
    means = {quantity.key: over_seeds(quantity, map(quantity.of, runs)) for quantity in quantities}
    return {key: value for key, value in means.items() if value is not None}


def differences(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Difference]:
    """By stem, second − first over pairs of runs, of each quantity that is compared and a pair has measured."""
    gaps = {
        quantity.stem: inference.difference([(_number(quantity, old), _number(quantity, new)) for old, new in pairs])
        for quantity in compared()
    }
    return {stem: gap for stem, gap in gaps.items() if gap}


def _number(quantity: Quantity, run: Run) -> Count | float | None:
    """What can be held against another run's; nothing of a part without images."""
    value = quantity.of(run)
    return None if isinstance(value, Lost) or (isinstance(value, Count) and not value.n) else value


def by_key(rows: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """The differences of a table's rows, corrected for the number of rows in each column for itself."""
    adjusted: list[dict[str, Difference]] = [dict(row) for row in rows]
    for key in dict.fromkeys(key for row in rows for key in row):
        column = [row for row in adjusted if key in row]
        for row, gap in zip(column, inference.corrected([row[key] for row in column]), strict=True):
            row[key] = gap
    return adjusted


def accuracies(measured: Iterable[Mapping[str, Metrics]]) -> dict[str, Estimate]:
    """By test set, the mean accuracy in percent of the seeds of a setting, of each its metrics."""
    seeds = list(measured)
    means = {stem: accuracy(count(metrics, stem) for metrics in seeds) for stem in shown_stems()}
    return {stem: estimate for stem, estimate in means.items() if estimate}


def shown_stems() -> list[str]:
    """The test sets of the table of accuracies."""
    return [quantity.stem for quantity in shown_in("accuracy")]


def verdict(difference: Difference) -> str:
    """What is said of a difference that is none for sure: that it cannot be detected, or why nothing is decided.

    Empty of one that is detected, and of one seed, which the report says once.
    """
    if difference.detectable is None:
        return number.undecided(difference.estimate) if difference.estimate.n > 1 else ""
    return "" if difference.detectable else AFTER_HOLM if difference.excludes_zero else NO_DIFFERENCE
