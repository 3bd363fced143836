"""Accuracy against k: the settings of a study that differ in nothing but their rank, as one series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.aggregate import accuracies
from lorabench.analysis.inference import Estimate
from lorabench.analysis.settings import Setting, collect, differing_words
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
    ranked = [setting for setting in collect(runs).settings if setting.k is not None]
    groups = [group for group in _groups(ranked) if len(group) > 1]
    kept = [_recipe(group[0], "k") for group in groups]
    series: list[RankSeries] = []
    for group, recipe in zip(groups, kept, strict=True):
        of_method = [other for other in kept if other["method"] == recipe["method"]]
        label = " ".join([group[0].method, *differing_words(recipe, of_method)])
        points = [RankPoint(each.k or 0, accuracies(run.metrics for run in each.runs)) for each in group]
        series.append(RankSeries(label, tuple(sorted(points, key=lambda point: point.k))))
    return series


def base_accuracy(runs: Sequence[Run]) -> dict[str, Estimate]:
    """The bases' mean accuracy in percent, by test set; empty if none is known, or where they differ in settings."""
    recipes = list(collect(runs).bases_by_recipe.values())
    return accuracies(recipes[0].values()) if len(recipes) == 1 else {}


def _groups(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Settings that differ in k and learning rate alone; where a k would be there twice, in k alone."""
    groups: list[list[Setting]] = []
    for group in _alike(settings, "k", "lr"):
        groups += [group] if len({setting.k for setting in group}) == len(group) else _alike(group, "k")
    return groups


def _alike(settings: Sequence[Setting], *ignored: str) -> list[list[Setting]]:
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(str(sorted(_recipe(setting, *ignored).items())), []).append(setting)
    return list(groups.values())


def _recipe(setting: Setting, *ignored: str) -> dict[str, Any]:
    return {key: value for key, value in {**setting.recipe, "method": setting.method}.items() if key not in ignored}
