"""What follows from the values of a setting's seeds: a mean with its interval, a difference, a decision.

    accuracy([Count(9774, 10_000), Count(9781, 10_000), Count(9779, 10_000)])    # 97.78 [97.69, 97.87]
    difference([(before, after), ...])                    # paired by seed, in points; the paired t test decides
    corrected([difference(rows[0]), difference(rows[1])]) # the same, by Holm for the number of rows
    over_seeds(quantity, map(quantity.of, setting.runs))  # of whatever a run says, by its `Quantity`
    differences([(other, run), ...])                      # of every quantity that is compared, second - first
    same_images(lost=40, gained=60, n=10_000)             # one run of each: the mid-p McNemar test decides

The seeds are the unit. An interval covers trainings on the very images that were measured; `Estimate.images` covers
other images of the same kind too. Fewer than `FEWEST` seeds, or values that lie closer together than one image, have
no interval and no test, and so nothing is decided by them. No torch and no Rich; `stats` has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from lorabench import stats
from lorabench.analysis.quantities import Count, Lost, Measured, Quantity, compared, count, shown_in
from lorabench.runs import Metrics, Run
from lorabench.stats import Interval

LEVEL = 0.95
"""Of every interval that is not asked for at another level; the tests decide at 1 − this."""

FEWEST = 3
"""Seeds that an interval needs: of two, Student's is 9 times as wide as they lie apart, and both may be equal."""

FAR_APART = 10
"""Standard errors of an accuracy, by its images, between two seeds of which one has collapsed."""

Lack = Literal["fewer than 3 seeds", "a spread below one image", "no spread"]
"""Why there is no interval."""


@dataclass(frozen=True)
class Estimate:
    """The mean of `n` values in their unit, percent for accuracies and points for differences.

    Attributes:
        sd: None of one value.
        low, high: Student's interval over trainings; None where `lacks` says why there is none.
        values: as they were given.
        images: of an accuracy that has an interval, the one over trainings and test images.
        scattered: whether values lie so far apart that the mean stands for none of them, as where a seed collapsed.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int
    values: tuple[float, ...]
    lacks: Lack | None = None
    images: Interval | None = None
    scattered: bool = False


Folded = Estimate | float | bool
"""What a setting has of a quantity: a mean over its seeds, or what all of them share."""


@dataclass(frozen=True)
class Difference:
    """Second − first over the pairs, in points; `estimate.n` is the number of pairs.

    Attributes:
        p: of the paired t test; None where `estimate` has no interval.
        holm: p corrected for the `of` differences that were tested together.
        detectable: whether `holm` is below 1 − LEVEL; None where there is no p.
        sign_flip: p of the exact sign-flip test, which is beside the t test and decides nothing; None without p, and
            with more pairs than that test takes.
        least_sign_flip: the smallest that so few pairs can give.
    """

    estimate: Estimate
    p: float | None = None
    holm: float | None = None
    of: int = 1
    detectable: bool | None = None
    sign_flip: float | None = None
    least_sign_flip: float | None = None

    @property
    def excludes_zero(self) -> bool | None:
        """What `p` says alone, and so the interval; None where there is none."""
        return None if self.p is None else self.p < 1 - LEVEL


class OfTwo(NamedTuple):
    """Second − first of two runs, in points, with its interval over images.

    `detectable` is whether `low` to `high` excludes 0; on the same images `p` is below 1 − LEVEL just then, on others
    there is none.
    """

    difference: float
    low: float
    high: float
    detectable: bool
    p: float | None = None


def accuracy(measured: Iterable[Count | None], level: float = LEVEL) -> Estimate | None:
    """The mean accuracy in percent of the seeds that were measured on some images; None if none was."""
    counts = [count for count in measured if count and count.n]
    if not counts:
        return None
    estimate = _estimate([count.percent for count in counts], 100 / min(count.n for count in counts), level)
    error = 100 * math.sqrt(math.fsum(c.correct * (c.n - c.correct) / c.n**3 for c in counts) / len(counts))
    images = None
    if estimate.high is not None:
        half = stats.with_images(estimate.high - estimate.mean, error, level)
        images = Interval(estimate.mean - half, estimate.mean + half)
    return replace(estimate, images=images, scattered=max(estimate.values) - min(estimate.values) > FAR_APART * error)


def mean(values: Sequence[float | None], level: float = LEVEL) -> Estimate | None:
    """The mean of what is not counted in images, such as seconds; None is left out, and None if there is nothing."""
    known = [value for value in values if value is not None]
    return _estimate(known, 0.0, level) if known else None


def ratio(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The geometric mean of ratios, such as of two things timed in turns, with the interval of their logarithms.

    Raises:
        ValueError: there are none, or one is not positive.
    """
    logs = _estimate([math.log(value) for value in values], 0.0, level)
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return replace(logs, mean=math.exp(logs.mean), low=low, high=high, values=tuple(values))


def difference(pairs: Sequence[tuple[Count | float | None, Count | float | None]]) -> Difference | None:
    """Second − first of the pairs that are complete, of counted images in points; None if no pair is."""
    values: list[float] = []
    image = 0.0
    for first, second in pairs:
        if isinstance(first, Count) and isinstance(second, Count):
            # Of equal numbers of images the difference is of whole ones, and not of two rounded shares.
            whole = first.n == second.n
            gap = 100 * (second.correct - first.correct) / first.n if whole else second.percent - first.percent
            values.append(gap)
            image = max(image, 100 / min(first.n, second.n))
        elif isinstance(first, float | int) and isinstance(second, float | int):
            values.append(second - first)
    if not values:
        return None
    estimate = _estimate(values, image, LEVEL)
    if estimate.lacks:
        return Difference(estimate)
    p = stats.paired_t(values).p
    flips = stats.sign_flip(values) if len(values) <= stats.MOST_SIGN_FLIPS else (None, None)
    return Difference(estimate, p, p, 1, p < 1 - LEVEL, *flips)


def corrected(gaps: Sequence[Difference]) -> list[Difference]:
    """The differences of one table, by Holm for the number of those that were tested; the others as they are."""
    tested = [gap.p for gap in gaps if gap.p is not None]
    adjusted = iter(stats.holm(tested))
    return [
        gap if gap.p is None else replace(gap, holm=(p := next(adjusted)), of=len(tested), detectable=p < 1 - LEVEL)
        for gap in gaps
    ]


def over_seeds(quantity: Quantity, values: Iterable[Measured | None]) -> Folded | None:
    """What the values of a setting's seeds are together: percent for accuracies, points for what was lost, else as is.

    None where nothing was measured, and where seeds that should share a value do not.
    """
    known = [value for value in values if value is not None]
    numbers = [value for value in known if not isinstance(value, Count | Lost)]
    if quantity.shared:
        return numbers[0] if numbers and all(value == numbers[0] for value in numbers) else None
    if quantity.counts:
        return accuracy(value for value in known if isinstance(value, Count))
    if lost := difference([(value.after, value.before) for value in known if isinstance(value, Lost)]):
        return lost.estimate
    return mean(numbers)


def means(runs: Sequence[Run], quantities: Iterable[Quantity]) -> dict[str, Folded]:
    """By key, each quantity over the runs of a setting, as far as they measured it."""
    means = {quantity.key: over_seeds(quantity, map(quantity.of, runs)) for quantity in quantities}
    return {key: value for key, value in means.items() if value is not None}


def differences(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Difference]:
    """By stem, second − first over pairs of runs, of each quantity that is compared and a pair has measured."""
    gaps = {
        quantity.stem: difference([(_number(quantity, old), _number(quantity, new)) for old, new in pairs])
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
        for row, gap in zip(column, corrected([row[key] for row in column]), strict=True):
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


def same_images(lost: int, gained: int, n: int) -> OfTwo:
    """Two runs on `n` images, of which only the first got `lost` right and only the second `gained`.

    The mid-p McNemar test decides. Where it finds nothing, Tango's interval holds 0 but for 27 pairs of counts up
    to 1,000, such as 0 and 4 or 6 and 15; there the interval is widened to 0. It never is the other way about.
    """
    low, high = stats.paired_difference(lost, gained, n, LEVEL)
    p = stats.mcnemar_mid_p(lost, gained)
    detectable = p < 1 - LEVEL
    if not detectable:
        low, high = min(low, 0.0), max(high, 0.0)
    return OfTwo(100 * (gained - lost) / n, 100 * low, 100 * high, detectable, p)


def one_run(count: Count) -> Interval:
    """Wilson's interval of one run's accuracy over test images, in percent; of other seeds it says nothing."""
    low, high = stats.wilson(count.correct, count.n, LEVEL)
    return Interval(100 * low, 100 * high)


def other_images(first: Count, second: Count) -> OfTwo:
    """Two runs on different images, by Newcombe's interval."""
    low, high = stats.independent_difference(first, second, LEVEL)
    return OfTwo(second.percent - first.percent, 100 * low, 100 * high, not low <= 0 <= high)


def _estimate(values: Sequence[float], image: float, level: float) -> Estimate:
    """`image`: what one image is of the values' unit; 0: they are not counted in images."""
    interval = stats.t_interval(values, level)
    lacks: Lack | None = None
    if interval.n < FEWEST or interval.sd is None:
        lacks = "fewer than 3 seeds"
    elif interval.sd < image * (1 - 1e-9):
        lacks = "a spread below one image"
    elif interval.sd == 0:
        lacks = "no spread"
    low, high = (None, None) if lacks else (interval.low, interval.high)
    return Estimate(interval.mean, interval.sd, low, high, interval.n, tuple(values), lacks)
