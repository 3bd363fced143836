"""Two runs, the first of which is the baseline: what differs, in which results, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabench.analysis.fairness import Unequal, Unfinished, unequal, unfinished
from lorabench.analysis.number import flatten, plain
from lorabench.analysis.paired import Contrast, Predictions, contrasts, mirroring_contrasts
from lorabench.analysis.quantities import SETS
from lorabench.analysis.single import CellChange, Metric, largest_changes, metrics_of
from lorabench.runs import Run

_Facts = dict[tuple[str, str], Any]
_DIRTY = "uncommitted"


@dataclass(frozen=True)
class Fact:
    """A fact that is not the same in all runs; None where a run has no such fact.

    `kind` is "config", "base", "data", "code" or "environment".
    """

    kind: str
    key: str
    values: list[Any]


def differing(runs: Sequence[Run], shifts: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """The facts that differ, by kind, and whether code was uncommitted: two such runs of one commit may differ too.

    `shifts` holds the settings of each run's F-MNIST, as far as they are known.
    """
    facts_of_runs = [_facts(run, shift) for run, shift in zip(runs, shifts, strict=True)]
    keys = dict.fromkeys(key for facts in facts_of_runs for key in facts)
    rows = [Fact(*key, [facts.get(key) for facts in facts_of_runs]) for key in keys]
    order = list(dict.fromkeys(row.kind for row in rows))
    differ = [
        row for row in rows if any(v != row.values[0] for v in row.values) or (row.key == _DIRTY and any(row.values))
    ]
    return sorted(differ, key=lambda row: order.index(row.kind))


def _facts(run: Run, shift: Mapping[str, Any]) -> _Facts:
    env = dict(run.env)
    git: Mapping[str, Any] = env.pop("git", None) or {}
    images = {name: metrics.n for name, metrics in run.metrics.items()}
    kinds: dict[str, Mapping[str, Any]] = {
        "config": {"stage": run.stage, **flatten(run.settings)},
        "base": {"run": run.parents.base, "weights": run.checks.get("base_sha256")},
        "data": {
            "F-MNIST": run.parents.data,
            **{f"F-MNIST {key}": value for key, value in shift.items()},
            **{f"test images, {name}": n for name, n in images.items()},
        },
        "code": {"lorabench": env.pop("lorabench", None), "commit": git.get("commit"), _DIRTY: git.get("dirty")},
        "environment": flatten(env),
    }
    return {(kind, key): value for kind, facts in kinds.items() for key, value in facts.items()}


NAMES = ("A", "B")


@dataclass(frozen=True)
class ConfusionChange:
    """Confusions on one test set of as many images, the baseline's and the other's, and the largest changes first."""

    set: str
    before: list[list[int]]
    after: list[list[int]]
    changes: list[CellChange]


@dataclass(frozen=True)
class Comparison:
    """What `compare_report` shows: B − A in `accuracy`, F-MNIST − MNIST in `mirroring`, as `cells` explains."""

    runs: list[str]
    differing: list[Fact]
    unequal: list[Unequal]
    accuracy: list[Contrast]
    mirroring: list[Contrast]
    confusion: list[ConfusionChange]
    metrics: list[Metric]
    unfinished: list[Unfinished]


def compare(first: Run, second: Run, predictions: Mapping[str, Predictions] | None = None) -> Comparison:
    """Compare two runs.

    Args:
        first: the baseline.
        second: the other.
        predictions: by run id; what is not compared image by image for want of it is compared by its counts.
    """
    runs = (first, second)
    a, b = ((run, (predictions or {}).get(run.id, Predictions())) for run in runs)
    return Comparison(
        runs=[run.id for run in runs],
        differing=differing(runs, [a[1].shift, b[1].shift]),
        unequal=unequal(zip(NAMES, ([first], [second]), strict=True)),
        accuracy=contrasts(a, b),
        mirroring=mirroring_contrasts(a, b),
        confusion=_confusions(first, second),
        metrics=metrics_of(runs),
        unfinished=unfinished(runs),
    )


def compare_data(comparison: Comparison) -> dict[str, Any]:
    """What `compare_report` shows, as plain data, with each metric's difference."""
    return plain(comparison) | {
        "metrics": [plain(metric) | {"difference": metric.difference} for metric in comparison.metrics]
    }


def _confusions(first: Run, second: Run) -> list[ConfusionChange]:
    """For each test set of which both saw the same number of images of each digit."""
    changes: list[ConfusionChange] = []
    for name in SETS:
        if first.status == second.status == "done" and name in first.metrics and name in second.metrics:
            before, after = first.metrics[name].confusion, second.metrics[name].confusion
            if [sum(row) for row in before] == [sum(row) for row in after]:
                changes.append(ConfusionChange(name, before, after, largest_changes(before, after)))
    return changes
