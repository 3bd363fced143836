"""Accuracies and differences over the seeds of a setting: the one place that forms them from run records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorabench.analysis import inference, number
from lorabench.analysis.inference import Count
from lorabench.analysis.settings import SETS, SLICES, base_metrics, bases, ways

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.analysis.inference import Difference, Estimate
    from lorabench.analysis.settings import Arm
    from lorabench.runs import Metrics, Run


NO_DIFFERENCE = "no detectable difference"
AFTER_HOLM = "not detectable after Holm"
"""Of a difference whose own interval excludes 0, and whose p does not hold for so many rows."""


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
    """A row for each way in which bases were trained, usually one, then one for each arm, against its own bases.

    The arms' differences are corrected for their number, each test set for itself.
    """
    known = bases(runs)
    rows = [AccuracyRow(label, means(list(way.values()), tuple(SETS)), {}) for label, way in ways(runs).items()]
    pairs = [[(base_metrics(run, known), run.metrics) for run in arm.runs] for arm in arms]
    gains = by_key([differences(both, tuple(SETS)) for both in pairs])
    for arm, both, gain in zip(arms, pairs, gains, strict=True):
        rows.append(AccuracyRow(arm.label, means([new for _, new in both], tuple(SETS)), gain))
    return rows


def slice_rows(runs: Sequence[Run], arm: Arm) -> list[SliceRow]:
    """F-MNIST's parts that have images, for one arm, corrected for their number."""
    known = bases(runs)
    rows: list[SliceRow] = []
    for name in SLICES:
        pairs = [
            (count(base_metrics(run, known), f"fmnist.{name}"), count(run.metrics, f"fmnist.{name}"))
            for run in arm.runs
        ]
        both = [(before, after) for before, after in pairs if before is not None and after is not None]
        gain = inference.difference(both)
        base = inference.accuracy([before for before, _ in both])
        tuned = inference.accuracy([after for _, after in both])
        if gain and base and tuned:
            rows.append(SliceRow(name, both[0][1].n, base, tuned, gain))
    gains = inference.corrected([row.difference for row in rows])
    return [replace(row, difference=gain) for row, gain in zip(rows, gains, strict=True)]


def count(metrics: Mapping[str, Metrics], key: str) -> Count | None:
    """What is right on the test set `mnist` or `fmnist`, or on a part of it, `fmnist.flipped`.

    None if it was not measured or has no images.
    """
    name, _, part = key.partition(".")
    found = metrics.get(name)
    counted = found.slices.get(part) if found and part else found
    return Count(counted.correct, counted.n) if counted and counted.n else None


def differences(
    pairs: Sequence[tuple[Mapping[str, Metrics], Mapping[str, Metrics]]], keys: Sequence[str]
) -> dict[str, Difference]:
    """Second − first over pairs of runs, for each of the `keys` that `count` takes and a pair has measured."""
    found = {key: inference.difference([(count(old, key), count(new, key)) for old, new in pairs]) for key in keys}
    return {key: gap for key, gap in found.items() if gap}


def by_key(rows: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """The differences of a table's rows, corrected for the number of rows in each column for itself."""
    found: list[dict[str, Difference]] = [dict(row) for row in rows]
    for key in dict.fromkeys(key for row in rows for key in row):
        column = [row for row in found if key in row]
        for row, gap in zip(column, inference.corrected([row[key] for row in column]), strict=True):
            row[key] = gap
    return found


def means(found: Sequence[Mapping[str, Metrics]], keys: Sequence[str]) -> dict[str, Estimate]:
    """The mean accuracy in percent of runs, for each of the `keys` that one has measured."""
    every = {key: [count(metrics, key) for metrics in found] for key in keys}
    known = {key: inference.accuracy([one for one in counts if one]) for key, counts in every.items()}
    return {key: estimate for key, estimate in known.items() if estimate}


def verdict(found: Difference) -> str:
    """What is said of a difference that is none for sure: that it cannot be detected, or why nothing is decided.

    Empty of one that is detected, and of one seed, which the report says once.
    """
    if found.detectable is None:
        return number.undecided(found.estimate) if found.estimate.n > 1 else ""
    return "" if found.detectable else AFTER_HOLM if found.excludes_zero else NO_DIFFERENCE
