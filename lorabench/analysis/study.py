"""What the report of a study holds: accuracies, parts, parameters, confusions, and the talk's figures beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.analysis import confusion
from lorabench.analysis.aggregate import AccuracyRow, SliceRow, accuracy_rows, slice_rows
from lorabench.analysis.claims import ledger
from lorabench.analysis.fairness import grounds
from lorabench.analysis.methods import MethodRow, method_rows
from lorabench.analysis.parameters import SizeRow, size_rows
from lorabench.analysis.plain import plain
from lorabench.analysis.settings import arms, base_metrics, bases, main_arm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.analysis.claims import Row
    from lorabench.analysis.fairness import Unequal
    from lorabench.analysis.settings import Arm, OnImages
    from lorabench.runs import Metrics, Run


@dataclass(frozen=True)
class Repair:
    """The main arm's confusions on F-MNIST, before and after, summed over its seeds."""

    label: str
    seeds: int
    before: list[list[int]]
    after: list[list[int]]
    changes: list[confusion.Change]


@dataclass(frozen=True)
class Unfinished:
    """A run that has no result, and why, as far as it is known."""

    id: str
    status: str
    error: str


@dataclass(frozen=True)
class Overview:
    """Everything that the report of a study shows. `main` is the arm whose parts and confusions it shows.

    `methods` has a row for each arm if there are several; the tables then show the main arm alone elsewhere.
    `unequal` says which runs were made with another lorabench, torch, device or kind of machine.
    `ledger` is empty for a study that was measured on held-out images: the talk's figures are of the test set.
    """

    study: str | None
    seeds: list[int]
    main: str | None
    accuracy: list[AccuracyRow]
    slices: list[SliceRow]
    parameters: list[SizeRow]
    confusion: Repair | None
    methods: list[MethodRow]
    ledger: list[Row]
    unfinished: list[Unfinished]
    unequal: list[Unequal]


def overview(study_runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> Overview:
    """The report's rows. `study_runs` holds the study's runs with their parents, in any order."""
    found = arms(study_runs)
    main = main_arm(found)
    trained = [run for run in study_runs if run.stage != "fmnist"]
    return Overview(
        study=next((run.study for run in reversed(study_runs) if run.study), None),
        seeds=sorted({run.seed for run in trained if run.status == "done"}),
        main=main.label if main else None,
        accuracy=accuracy_rows(study_runs, found),
        slices=slice_rows(study_runs, main) if main else [],
        parameters=size_rows(study_runs, found),
        confusion=_repair(main, bases(study_runs)) if main else None,
        methods=method_rows(study_runs, found),
        ledger=[] if any(run.holdout for run in study_runs) else ledger(study_runs, bench),
        unfinished=unfinished(study_runs),
        unequal=grounds(study_runs),
    )


def unfinished(runs: Sequence[Run]) -> list[Unfinished]:
    """The runs among `runs` that are not done."""
    return [Unfinished(run.id, run.status, _reason(run)) for run in runs if run.status != "done"]


def _reason(run: Run) -> str:
    return f"{run.error.type}: {run.error.message}" if run.error else ""


def _repair(arm: Arm, known: Mapping[OnImages, Mapping[str, Metrics]]) -> Repair | None:
    pairs = [(base_metrics(run, known), run.metrics) for run in arm.runs]
    both = [(old["fmnist"], new["fmnist"]) for old, new in pairs if "fmnist" in old and "fmnist" in new]
    if not both:
        return None
    before = confusion.summed(old.confusion for old, _ in both)
    after = confusion.summed(new.confusion for _, new in both)
    return Repair(arm.label, len(both), before, after, confusion.largest_changes(before, after))


def study_data(study_runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The report of a study as plain data."""
    return plain(overview(study_runs, bench))
