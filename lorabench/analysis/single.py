"""One run in full: parameters, accuracies, parts, confusion matrix, cost, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.analysis import confusion, inference
from lorabench.analysis.comparison import metrics_of
from lorabench.analysis.fairness import unfinished
from lorabench.analysis.number import plain
from lorabench.analysis.paired import Contrast, paired
from lorabench.analysis.quantities import SETS, SLICES, Count
from lorabench.runs import Epoch, Metrics, Run, Slice

if TYPE_CHECKING:
    from lorabench.analysis.paired import Digits


@dataclass(frozen=True)
class RunAccuracy:
    """Accuracy in percent with its 95% Wilson interval on `n` test images; `before` is the base's."""

    label: str
    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    before: float | None


@dataclass(frozen=True)
class ClassCount:
    """`flipped` of the `images` of one digit in one split; `share` in percent."""

    split: str
    digit: int
    images: int
    flipped: int
    share: float


@dataclass(frozen=True)
class SpectrumRow:
    """One layer: ‖ΔW‖_F, ‖ΔW‖_F² / ‖ΔW‖₂², and how many singular directions hold 90% of ‖ΔW‖_F², ΔW = W1 − W0."""

    layer: str
    frobenius: float
    stable_rank: float
    rank90: int


def scores(run: Run) -> list[RunAccuracy]:
    """A row for each test set, followed by the parts of F-MNIST that have images."""
    rows: list[RunAccuracy] = []
    for name, title in SETS.items():
        if name in run.metrics:
            metrics, before = run.metrics[name], run.before.get(name)
            rows.append(_score(title, metrics, before))
            old = before.slices if before else {}
            parts = [(part, metrics.slices[part]) for part in SLICES if part in metrics.slices]
            rows += [_score(f"  {SLICES[part]}", counts, old.get(part)) for part, counts in parts if counts.n]
    return rows


def _score(label: str, counts: Metrics | Slice, before: Metrics | Slice | None) -> RunAccuracy:
    count = Count(counts.correct, counts.n)
    old = 100 * before.correct / before.n if before and before.n else None
    return RunAccuracy(label, count.n, count.correct, count.percent, *inference.one_run(count), old)


def before_and_after(predictions: Mapping[str, Digits] | None, labels: Digits | None) -> list[Contrast]:
    """A fine-tuned run against its base, image by image.

    Args:
        predictions: test set to predicted digits (n,), the base's under `before_<set>`, as in the run's file.
        labels: true digits (n,).
    """
    if not predictions or labels is None:
        return []
    both = [name for name in SETS if name in predictions and f"before_{name}" in predictions]
    return [
        paired(name, SETS[name], predictions[f"before_{name}"] == labels, predictions[name] == labels) for name in both
    ]


def class_counts(run: Run) -> list[ClassCount]:
    """A row for every digit of every split that has changed images; none if the run did not come so far."""
    return [
        ClassCount(split, digit, images, flipped, 100 * flipped / images)
        for split, counts in run.checks.items()
        for digit, (images, flipped) in enumerate(zip(counts["images"], counts["flipped"], strict=True))
        if flipped
    ]


def spectrum_rows(run: Run) -> list[SpectrumRow]:
    """A row for each layer; none if the run recorded none, say because its method does not merge."""
    layers: dict[str, dict[str, float]] = run.checks.get("delta_w", {})
    return [
        SpectrumRow(layer, values["frobenius"], values["stable_rank"], int(values["rank90"]))
        for layer, values in layers.items()
    ]


def run_data(
    run: Run,
    predictions: Mapping[str, Digits] | None = None,
    labels: Digits | None = None,
    history: Sequence[Epoch] = (),
) -> dict[str, Any]:
    """One run in full as plain data: its record, and what the report derives from it."""
    matrices = {name: metrics.confusion for name, metrics in run.metrics.items()}
    return {
        "run": run.model_dump(mode="json", by_alias=True),
        "accuracy": plain(scores(run)),
        "paired": plain(before_and_after(predictions, labels)),
        "recalls": {name: confusion.recalls(matrix) for name, matrix in matrices.items()},
        "worst_cells": {name: plain(confusion.worst_cells(matrix)) for name, matrix in matrices.items()},
        "census": plain(class_counts(run)) if run.stage == "fmnist" else [],
        "delta_w": plain(spectrum_rows(run)),
        "measured": plain(metrics_of([run])),
        "history": [epoch.model_dump() for epoch in history],
        "unfinished": plain(unfinished([run])),
    }
