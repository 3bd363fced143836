"""Accuracy against k: the arms of a study that differ in nothing but their rank, as one series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.analysis.aggregate import accuracy_rows
from lorabench.analysis.settings import arms, distinctive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.inference import Estimate
    from lorabench.analysis.settings import Arm
    from lorabench.runs import Run


@dataclass(frozen=True)
class RankPoint:
    """Mean accuracy in percent of one k, by test set."""

    k: int
    accuracy: dict[str, Estimate]


@dataclass(frozen=True)
class RankSeries:
    """One way to fine-tune at two ranks or more, the smallest first."""

    label: str
    points: tuple[RankPoint, ...]


def rank_series(runs: Sequence[Run]) -> list[RankSeries]:
    """The series among `runs`, in the order in which they first appear.

    Learning rates may differ from k to k, since each is tuned for itself, unless one k has several.
    """
    found = [arm for arm in arms(runs) if arm.k is not None]
    measured = {row.label: row.accuracy for row in accuracy_rows(runs, found)}
    groups = [group for group in _groups(found) if len(group) > 1]
    kept = [_settings(group[0], "k") for group in groups]
    series: list[RankSeries] = []
    for group, settings in zip(groups, kept, strict=True):
        twins = [other for other in kept if other["method"] == settings["method"]]
        points = sorted((RankPoint(arm.k or 0, measured[arm.label]) for arm in group), key=lambda point: point.k)
        series.append(RankSeries(" ".join([group[0].method, *distinctive(settings, twins)]), tuple(points)))
    return series


def base_accuracy(runs: Sequence[Run]) -> dict[str, Estimate]:
    """The bases' mean accuracy in percent, by test set; empty if none is known, or where they differ in settings."""
    rows = accuracy_rows(runs, ())
    return rows[0].accuracy if len(rows) == 1 else {}


def _groups(found: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that differ in k and learning rate alone; where a k would be there twice, in k alone."""
    groups: list[list[Arm]] = []
    for group in _alike(found, "k", "lr"):
        groups += [group] if len({arm.k for arm in group}) == len(group) else _alike(group, "k")
    return groups


def _alike(found: Sequence[Arm], *ignored: str) -> list[list[Arm]]:
    groups: dict[str, list[Arm]] = {}
    for arm in found:
        groups.setdefault(str(sorted(_settings(arm, *ignored).items())), []).append(arm)
    return list(groups.values())


def _settings(arm: Arm, *ignored: str) -> dict[str, Any]:
    return {key: value for key, value in {**arm.recipe, "method": arm.method}.items() if key not in ignored}
