"""One run in full: accuracies, parts, confusion matrices, cost, checks.

A confusion matrix is 10 lists of 10 counts: rows are true digits, columns predicted ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.analysis import inference
from lorabench.analysis.fairness import unfinished
from lorabench.analysis.number import plain
from lorabench.analysis.paired import Contrast, paired
from lorabench.analysis.quantities import SETS, SLICES, Count, shown_in
from lorabench.runs import Epoch, Metrics, Run, Slice

if TYPE_CHECKING:
    from lorabench.analysis.paired import Digits

Matrix = Sequence[Sequence[int]]


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


@dataclass(frozen=True)
class Metric:
    """A number of one run or two, None where one has none. `decimals` is how many of them mean something."""

    label: str
    values: list[float | None]
    decimals: int

    @property
    def difference(self) -> float | None:
        """The second less the baseline; None of one run alone."""
        first, second = (*self.values, None)[:2]
        return None if first is None or second is None else second - first


def metrics_of(runs: Sequence[Run]) -> list[Metric]:
    """What is measured of the runs besides accuracies, a row for each quantity; of one that is not done nothing."""
    rows: list[Metric] = []
    for quantity in shown_in("comparison"):
        head, _, decimals, per = quantity.columns["comparison"]
        values = [quantity.of(run) if run.status == "done" else None for run in runs]
        rows.append(
            Metric(head, [value / per if isinstance(value, float | int) else None for value in values], decimals)
        )
    return rows


@dataclass(frozen=True)
class Cell:
    """`count` images of `true` were taken for `predicted`."""

    true: int
    predicted: int
    count: int


@dataclass(frozen=True)
class CellChange:
    """Images of `true` taken for `predicted`, before and after."""

    true: int
    predicted: int
    before: int
    after: int


def summed(matrices: Iterable[Matrix]) -> list[list[int]]:
    """The sum of one matrix or more."""
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def recalls(matrix: Matrix) -> list[float | None]:
    """The share of each true digit that was recognised, in percent; None for a digit without images."""
    return [100 * row[digit] / sum(row) if sum(row) else None for digit, row in enumerate(matrix)]


def worst_cells(matrix: Matrix, n: int = 5) -> list[Cell]:
    """The `n` most frequent mistakes, the most frequent first."""
    cells = [Cell(t, p, count) for t, row in enumerate(matrix) for p, count in enumerate(row) if t != p and count]
    return sorted(cells, key=lambda cell: (-cell.count, cell.true, cell.predicted))[:n]


def largest_changes(before: Matrix, after: Matrix, n: int = 8) -> list[CellChange]:
    """The `n` mistakes whose counts changed most, the largest change first."""
    digits = range(len(before))
    cells = [CellChange(t, p, before[t][p], after[t][p]) for t in digits for p in digits if t != p]
    changed = [cell for cell in cells if cell.before != cell.after]
    return sorted(changed, key=lambda c: (-abs(c.after - c.before), c.true, c.predicted))[:n]


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
        "recalls": {name: recalls(matrix) for name, matrix in matrices.items()},
        "worst_cells": {name: plain(worst_cells(matrix)) for name, matrix in matrices.items()},
        "census": plain(class_counts(run)) if run.stage == "fmnist" else [],
        "delta_w": plain(spectrum_rows(run)),
        "measured": plain(metrics_of([run])),
        "history": [epoch.model_dump() for epoch in history],
        "unfinished": plain(unfinished([run])),
    }
