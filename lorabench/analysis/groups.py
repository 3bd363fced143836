"""Many runs: seeds folded into a row for each setting, each against the reference's, paired by seed and base.

groups(runs, baseline={"lora-k4-s0-..."}).rows      # of any runs
method_rows(study_runs)                             # of a study, against the talk's LoRA
rank_series(study_runs)                             # of a study, those that differ in nothing but k
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.fairness import Unequal, Unfinished, unequal, unfinished
from lorabench.analysis.inference import Difference, Estimate, Folded, accuracies, by_key, differences, means
from lorabench.analysis.number import plain
from lorabench.analysis.quantities import HEADLINE, QUANTITIES
from lorabench.analysis.settings import (
    Setting,
    collect,
    differing_words,
    featured_setting,
    group_by_setting,
    pairs,
    records,
)
from lorabench.errors import UsageError
from lorabench.runs import Broken, Run

MATCHED = 0.1
"""How far, as a share, a number of trained parameters may be from the reference's to count as the same size."""


@dataclass(frozen=True)
class SettingRow:
    """One setting over its seeds; accuracies in percent, differences in points.

    Attributes:
        setting: its label and its runs.
        baseline: whether the other rows are compared with this one.
        values: by key, each quantity that has a name, a column or a comparison, as far as it was measured.
        difference: this − the baseline, by stem, corrected for the number of rows; empty for the baseline, and where
            no runs match.
        matched: whether it trains as many parameters as the baseline, within `MATCHED`; None if either is unknown.
        front: whether no other row on the same F-MNIST trains fewer parameters and has a higher accuracy there, of
            those whose accuracy has an interval.
    """

    setting: Setting
    baseline: bool
    values: dict[str, Folded]
    difference: dict[str, Difference]
    matched: bool | None
    front: bool

    @property
    def label(self) -> str:
        """What a table calls the setting."""
        return self.setting.label

    @property
    def lr(self) -> float | None:
        """The learning rate of the setting."""
        return self.setting.runs[0].settings.get("lr")

    def estimate(self, key: str) -> Estimate | None:
        """The mean over seeds of a quantity; None if it was not measured."""
        return value if isinstance(value := self.values.get(key), Estimate) else None


@dataclass(frozen=True)
class Groups:
    """What `groups_report` shows. `without_model` are runs that make F-MNIST; `broken` folders cannot be read."""

    baseline: str | None
    rows: list[SettingRow]
    unequal: list[Unequal]
    without_model: list[str]
    unfinished: list[Unfinished]
    broken: list[Broken]


def groups(
    runs: Sequence[Run],
    *,
    baseline: Collection[str] = (),
    bases: Mapping[str, Run] | None = None,
    broken: Sequence[Broken] = (),
) -> Groups:
    """Fold and compare.

    Args:
        runs: any number, in the order of their rows.
        baseline: ids of runs of the setting that the others are compared with; none: the first row's.
        bases: by id. With all of them, fine-tunes whose bases were trained in other ways have rows of their own.
        broken: what cannot be read, to be named.

    Raises:
        UsageError: `baseline` is not one setting, or has no finished run.
    """
    settings = group_by_setting([run for run in runs if run.status == "done" and run.stage != "fmnist"], bases or {})
    reference = _reference(settings, baseline)
    return Groups(
        baseline=reference.label if reference else None,
        rows=_rows(settings, reference, records(runs) | dict(bases or {})) if reference else [],
        unequal=unequal((setting.label, setting.runs) for setting in settings),
        without_model=[run.id for run in runs if run.stage == "fmnist"],
        unfinished=unfinished(run for run in runs if run.stage != "fmnist"),
        broken=list(broken),
    )


def method_rows(runs: Iterable[Run]) -> list[SettingRow]:
    """A row for each setting of a study, if there are several; the reference is its featured one."""
    known = collect(runs)
    reference = featured_setting(known.settings)
    if reference is None or len(known.settings) < 2:
        return []
    whole = [known.with_bases(setting) for setting in known.settings]
    return _rows(whole, whole[known.settings.index(reference)], known.records)


def rows_data(rows: Iterable[SettingRow]) -> list[dict[str, Any]]:
    """The rows as plain data: every quantity by its name, and those that are compared by their stems besides."""
    return [
        {
            "label": row.label,
            "baseline": row.baseline,
            "runs": [run.id for run in row.setting.runs],
            "seeds": [run.seed for run in row.setting.runs],
            "lr": row.lr,
            **{q.name: plain(row.values.get(q.key)) for q in QUANTITIES.values() if q.name},
            "rank90": {
                key.split(".")[2]: mean.mean
                for key in row.values
                if key.endswith(".rank90") and (mean := row.estimate(key))
            },
            "accuracy": {
                q.stem: plain(row.values[q.key]) for q in QUANTITIES.values() if q.compared and q.key in row.values
            },
            "difference": plain(row.difference),
            "versus": plain(row.difference.get("fmnist")),
            "matched": row.matched,
            "front": row.front,
        }
        for row in rows
    ]


def groups_data(groups: Groups) -> dict[str, Any]:
    """What `groups_report` shows, as plain data."""
    rest = {key: plain(value) for key, value in vars(groups).items() if key != "rows"}
    return {**rest, "rows": rows_data(groups.rows)}


def _reference(settings: Sequence[Setting], baseline: Collection[str]) -> Setting | None:
    if not baseline:
        return settings[0] if settings else None
    fitting = [setting for setting in settings if any(run.id in baseline for run in setting.runs)]
    if not fitting:
        raise UsageError("--baseline: no run that it names is finished and has a model")
    if len(fitting) > 1:
        labels = ", ".join(setting.label for setting in fitting)
        raise UsageError(f"--baseline names {len(fitting)} settings: {labels}; name runs of one of them")
    return fitting[0]


def _rows(settings: Sequence[Setting], reference: Setting, bases: Mapping[str, Run]) -> list[SettingRow]:
    told = [q for q in QUANTITIES.values() if q.name or q.columns or q.compared]
    values = [means(setting.runs, told) for setting in settings]
    gaps = [
        {} if setting is reference else differences(pairs(setting.runs, reference.runs, bases)) for setting in settings
    ]
    sizes = [size if isinstance(size := each.get("params.trainable"), int) else None for each in values]
    wanted = next(size for setting, size in zip(settings, sizes, strict=True) if setting is reference)
    rows = zip(settings, values, by_key(gaps), sizes, _fronts(settings, values, sizes), strict=True)
    return [
        SettingRow(
            setting=setting,
            baseline=setting is reference,
            values=own,
            difference=gap,
            matched=abs(size / wanted - 1) <= MATCHED if size and wanted else None,
            front=on_front,
        )
        for setting, own, gap, size, on_front in rows
    ]


def _fronts(
    settings: Sequence[Setting], values: Sequence[Mapping[str, Folded]], sizes: Sequence[int | None]
) -> list[bool]:
    """Which settings are on the Pareto front of those on their F-MNIST."""
    points = [
        (setting.recipe["data"], (float(size), mean.mean))
        if size is not None and isinstance(mean := each.get(HEADLINE), Estimate) and not mean.lacks
        else None
        for setting, size, each in zip(settings, sizes, values, strict=True)
    ]
    return [
        front([point[1] if point and point[0] == own[0] else None for point in points])[place] if own else False
        for place, own in enumerate(points)
    ]


def front(points: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Whether each point, a cost and a gain, is on the front: no other costs at most as much and gains at least as
    much, one of the two truly. None is never on it, and equal points are on it together.
    """
    known = [point for point in points if point is not None]
    return [
        point is not None and not any(c <= point[0] and g >= point[1] and (c, g) != point for c, g in known)
        for point in points
    ]


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
    ranked: list[list[Setting]] = []
    for group in _alike([setting for setting in collect(runs).settings if setting.k is not None], "k", "lr"):
        ranked += [group] if len({setting.k for setting in group}) == len(group) else _alike(group, "k")
    ranked = [group for group in ranked if len(group) > 1]
    kept = [_recipe(group[0], "k") for group in ranked]
    series: list[RankSeries] = []
    for group, recipe in zip(ranked, kept, strict=True):
        of_method = [other for other in kept if other["method"] == recipe["method"]]
        label = " ".join([group[0].method, *differing_words(recipe, of_method)])
        points = [RankPoint(each.k or 0, accuracies(run.metrics for run in each.runs)) for each in group]
        series.append(RankSeries(label, tuple(sorted(points, key=lambda point: point.k))))
    return series


def base_accuracy(runs: Sequence[Run]) -> dict[str, Estimate]:
    """The bases' mean accuracy in percent, by test set; empty if none is known, or where they differ in settings."""
    recipes = list(collect(runs).bases_by_recipe.values())
    return accuracies(recipes[0].values()) if len(recipes) == 1 else {}


def _alike(settings: Sequence[Setting], *ignored: str) -> list[list[Setting]]:
    """Settings that differ in nothing but what is `ignored`, together."""
    alike: dict[str, list[Setting]] = {}
    for setting in settings:
        alike.setdefault(str(sorted(_recipe(setting, *ignored).items())), []).append(setting)
    return list(alike.values())


def _recipe(setting: Setting, *ignored: str) -> dict[str, Any]:
    return {key: value for key, value in {**setting.recipe, "method": setting.method}.items() if key not in ignored}
