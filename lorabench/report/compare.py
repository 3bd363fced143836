"""Two runs, the first of which is the baseline: what differs, in which results, by how much, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.report import confusion
from lorabench.report.arm import SETS
from lorabench.report.cells import contrasts, mirroring_contrasts
from lorabench.report.contrast import contrast_note, contrast_table
from lorabench.report.differing import differing, differing_table
from lorabench.report.evidence import Evidence
from lorabench.report.fairness import unequal, unequal_note
from lorabench.report.overview import unfinished, unfinished_table
from lorabench.report.plain import plain
from lorabench.report.style import grid, group, line, note, stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.report.blocks import Block
    from lorabench.report.contrast import Contrast
    from lorabench.report.differing import Setting
    from lorabench.report.fairness import Unequal
    from lorabench.report.overview import Unfinished
    from lorabench.runs import Run

NAMES = ("A", "B")
_PARTS = "upright: images of the digits that F-MNIST flips, those that it left as they are"
_ONE_EACH = "1 run of each: the intervals are over test images and say nothing of other seeds"
_MIRRORING = "A to B: B on F-MNIST less A on MNIST"


@dataclass(frozen=True)
class Metric:
    """A number of both runs, None where one has none. `decimals` is how many of them mean something."""

    label: str
    values: list[float | None]
    decimals: int

    @property
    def difference(self) -> float | None:
        """The second less the baseline."""
        first, second = self.values
        return None if first is None or second is None else second - first


@dataclass(frozen=True)
class ConfusionChange:
    """Confusions on one test set of as many images, the baseline's and the other's, and the largest changes first."""

    set: str
    before: list[list[int]]
    after: list[list[int]]
    changes: list[confusion.Change]


@dataclass(frozen=True)
class Comparison:
    """What `compare_report` shows: B − A in `accuracy`, F-MNIST − MNIST in `mirroring`, as `cells` explains."""

    runs: list[str]
    differing: list[Setting]
    unequal: list[Unequal]
    accuracy: list[Contrast]
    mirroring: list[Contrast]
    confusion: list[ConfusionChange]
    metrics: list[Metric]
    unfinished: list[Unfinished]


def compare(first: Run, second: Run, evidence: Mapping[str, Evidence] | None = None) -> Comparison:
    """Compare two runs.

    Args:
        first: the baseline.
        second: the other.
        evidence: by run id; what is not compared image by image for want of it is compared by its counts.
    """
    runs = (first, second)
    one, other = ((run, (evidence or {}).get(run.id, Evidence())) for run in runs)
    return Comparison(
        runs=[run.id for run in runs],
        differing=differing(runs, [one[1].mirroring, other[1].mirroring]),
        unequal=unequal(zip(NAMES, ([first], [second]), strict=True)),
        accuracy=contrasts(one, other),
        mirroring=mirroring_contrasts(one, other),
        confusion=_confusions(first, second),
        metrics=_metrics(runs),
        unfinished=unfinished(runs),
    )


def compare_data(found: Comparison) -> dict[str, Any]:
    """What `compare_report` shows, as plain data, with each metric's difference."""
    return plain(found) | {"metrics": [plain(metric) | {"difference": metric.difference} for metric in found.metrics]}


def compare_report(found: Comparison) -> Block:
    """The comparison, readable at 80 columns. A is the baseline."""
    names = grid("runs", "", "", align="<<<")
    for name, run, role in zip(NAMES, found.runs, ("baseline", ""), strict=True):
        names.add_row(name, run, line(role, "dim"))
    metrics = [metric for metric in found.metrics if any(value is not None for value in metric.values)]
    return stack(
        [
            names,
            unfinished_table(found.unfinished),
            differing_table(found.differing, NAMES) if found.differing else note("the settings are the same"),
            unequal_note(found.unequal),
            _accuracy(found.accuracy) if found.accuracy else None,
            _mirroring(found.mirroring) if found.mirroring else None,
            *(block for change in found.confusion for block in _confusion_tables(change)),
            _metrics_table(metrics) if metrics else note("no run has a result"),
        ]
    )


def _accuracy(rows: Sequence[Contrast]) -> Block:
    parts = any(row.name == "fmnist.upright" for row in rows)
    notes = [note(_PARTS)] if parts else []
    return group(contrast_table("accuracy, %", rows, NAMES), contrast_note(rows), *notes, note(_ONE_EACH))


def _mirroring(rows: Sequence[Contrast]) -> Block:
    table = contrast_table("mirroring", rows, (SETS["mnist"], SETS["fmnist"]))
    return group(table, note(_MIRRORING)) if any(row.name == "repair" for row in rows) else table


def _confusions(first: Run, second: Run) -> list[ConfusionChange]:
    """For each test set of which both saw the same number of images of each digit."""
    found: list[ConfusionChange] = []
    for name in SETS:
        if first.status == second.status == "done" and name in first.metrics and name in second.metrics:
            before, after = first.metrics[name].confusion, second.metrics[name].confusion
            if [sum(row) for row in before] == [sum(row) for row in after]:
                found.append(ConfusionChange(name, before, after, confusion.largest_changes(before, after)))
    return found


def _confusion_tables(found: ConfusionChange) -> list[Block]:
    """The largest cells, and on F-MNIST the whole matrix."""
    title = SETS[found.set]
    if not found.changes:
        return [note(f"confusion on {title}: no cell differs")]
    largest = confusion.changes_table(found.changes, f"confusion on {title}")
    whole = confusion.difference(found.before, found.after, f"B - A on {title}, images")
    return [largest, whole] if found.set == "fmnist" else [largest]


def _metrics(runs: Sequence[Run]) -> list[Metric]:
    done = [run if run.status == "done" else None for run in runs]
    found = {name: [run.metrics.get(name) if run else None for run in done] for name in SETS}
    params = [run.params if run else None for run in done]
    costs = [run.cost if run else None for run in done]
    peaks = [cost.training_rss_bytes if cost else None for cost in costs]
    return [
        *(Metric(f"{SETS[name]} loss, nats", [m.loss if m else None for m in both], 4) for name, both in found.items()),
        Metric("parameters", [p.total if p else None for p in params], 0),
        Metric("  trained", [p.trainable if p else None for p in params], 0),
        Metric("checkpoint, B", [run.checkpoint_bytes if run else None for run in done], 0),
        Metric("steps", [cost.steps if cost else None for cost in costs], 0),
        Metric("training, s", [cost.train_s if cost else None for cost in costs], 2),
        Metric("  a step, ms", [cost.step_ms if cost else None for cost in costs], 2),
        Metric("  images/s", [cost.images_per_s if cost else None for cost in costs], 0),
        Metric("peak memory of training, MB", [peak / 1e6 if peak else None for peak in peaks], 0),
    ]


def _metrics_table(rows: Sequence[Metric]) -> Block:
    table = grid("loss and cost", *NAMES, "B - A", align="<>>>")
    for row in rows:
        values = [_cell(value, f",.{row.decimals}f") for value in row.values]
        table.add_row(row.label, *values, _cell(row.difference, f"+,.{row.decimals}f"))
    return table


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    text = f"{value:{form}}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")
