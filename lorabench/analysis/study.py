"""What the report of a study holds: accuracies, parts, parameters, confusions, and the talk's figures beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lorabench.analysis import inference
from lorabench.analysis.claims import Row, ledger
from lorabench.analysis.fairness import Unequal, Unfinished, grounds, unfinished
from lorabench.analysis.groups import SettingRow, method_rows, rows_data
from lorabench.analysis.inference import Difference, Estimate, accuracies, accuracy, by_key, differences, shown_stems
from lorabench.analysis.number import plain
from lorabench.analysis.quantities import SLICES, count
from lorabench.analysis.settings import Collection, Setting, collect, featured_setting
from lorabench.analysis.single import CellChange, largest_changes, summed
from lorabench.runs import Run


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


@dataclass(frozen=True)
class SizeRow:
    """Numbers of parameters; `share` is the trainable ones in percent of the base's."""

    label: str
    total: int
    trainable: int
    share: float | None
    checkpoint_bytes: int | None


@dataclass(frozen=True)
class Repair:
    """The featured setting's confusions on F-MNIST, before and after, summed over its seeds."""

    label: str
    seeds: int
    before: list[list[int]]
    after: list[list[int]]
    changes: list[CellChange]


@dataclass(frozen=True)
class Overview:
    """Everything that the report of a study shows. `main` is the setting whose parts and confusions it shows.

    `methods` has a row for each setting if there are several; the tables then show the main one alone elsewhere.
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
    methods: list[SettingRow]
    ledger: list[Row]
    unfinished: list[Unfinished]
    unequal: list[Unequal]


def overview(
    study_runs: Iterable[Run], bench: Mapping[str, Any] | None = None, measurement: Mapping[str, Any] | None = None
) -> Overview:
    """The report's rows. `study_runs` holds the study's runs with their parents, in any order."""
    runs = collect(study_runs)
    main = featured_setting(runs.settings)
    trained = [run for run in runs if run.stage != "fmnist"]
    return Overview(
        study=next((run.study for run in reversed(runs) if run.study), None),
        seeds=sorted({run.seed for run in trained if run.status == "done"}),
        main=main.label if main else None,
        accuracy=_accuracies(runs),
        slices=_slices(runs, main) if main else [],
        parameters=_sizes(runs),
        confusion=_repair(main, runs) if main else None,
        methods=method_rows(runs),
        ledger=[] if any(run.holdout for run in runs) else ledger(runs, bench, measurement),
        unfinished=unfinished(runs),
        unequal=grounds(runs),
    )


def overview_data(study: Overview) -> dict[str, Any]:
    """The same as plain data."""
    return {key: rows_data(study.methods) if key == "methods" else plain(value) for key, value in vars(study).items()}


def _accuracies(runs: Collection) -> list[AccuracyRow]:
    """A row for each way in which bases were trained, usually one, then one for each setting, against its own bases.

    The settings' differences are corrected for their number, each test set for itself.
    """
    rows = [AccuracyRow(label, accuracies(bases.values()), {}) for label, bases in runs.bases_by_recipe.items()]
    gained = [differences([(runs.base_of(run), run) for run in setting.runs]) for setting in runs.settings]
    gains = by_key([{stem: gap for stem, gap in each.items() if stem in shown_stems()} for each in gained])
    for setting, gain in zip(runs.settings, gains, strict=True):
        rows.append(AccuracyRow(setting.label, accuracies(run.metrics for run in setting.runs), gain))
    return rows


def _slices(runs: Collection, setting: Setting) -> list[SliceRow]:
    """F-MNIST's parts that have images, for one setting, corrected for their number."""
    rows: list[SliceRow] = []
    for name in SLICES:
        pairs = [
            (count(runs.base_metrics(run), f"fmnist.{name}"), count(run.metrics, f"fmnist.{name}"))
            for run in setting.runs
        ]
        both = [(before, after) for before, after in pairs if before and after and before.n and after.n]
        gain = inference.difference(both)
        base, tuned = (accuracy([pair[side] for pair in both]) for side in (0, 1))
        if gain and base and tuned:
            rows.append(SliceRow(name, both[0][1].n, base, tuned, gain))
    gains = inference.corrected([row.difference for row in rows])
    return [replace(row, difference=gain) for row, gain in zip(rows, gains, strict=True)]


def _sizes(runs: Collection) -> list[SizeRow]:
    """The base, then each setting, as far as they recorded their sizes."""
    named = [("base", runs.base)] if runs.base else []
    named += [(setting.label, setting.runs[0]) for setting in runs.settings]
    whole = runs.base.params.total if runs.base and runs.base.params else None
    return [
        SizeRow(
            label,
            run.params.total,
            run.params.trainable,
            100 * run.params.trainable / whole if whole else None,
            run.checkpoint_bytes,
        )
        for label, run in named
        if run.params
    ]


def _repair(setting: Setting, runs: Collection) -> Repair | None:
    pairs = [(runs.base_metrics(run), run.metrics) for run in setting.runs]
    both = [(old["fmnist"], new["fmnist"]) for old, new in pairs if "fmnist" in old and "fmnist" in new]
    if not both:
        return None
    before = summed(old.confusion for old, _ in both)
    after = summed(new.confusion for _, new in both)
    return Repair(setting.label, len(both), before, after, largest_changes(before, after))
