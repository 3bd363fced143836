"""Two runs, the first of which is the baseline: what differs, in which results, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorabench.analysis import number
from lorabench.analysis.comparison import NAMES, Comparison, ConfusionChange, Metric
from lorabench.analysis.number import NO_DIFFERENCE
from lorabench.analysis.paired import Contrast
from lorabench.analysis.quantities import SETS, SLICES
from lorabench.report import confusion
from lorabench.report.blocks import Block, Document, grid, group, line, note, stack, statistics
from lorabench.report.tables import differing_table, unequal_note, unfinished_table

_PARTS = f"{SLICES['upright']}: images of the same digits that F-MNIST left as they are"
_ONE_EACH = "1 run of each: the intervals are over test images and say nothing of other seeds"
_MIRRORING = "A to B: B on F-MNIST less A on MNIST"


def compare_report(comparison: Comparison) -> Document:
    """The comparison, readable at 80 columns. A is the baseline."""
    names = grid("runs", "", "", align="<<<")
    for name, run, role in zip(NAMES, comparison.runs, ("baseline", ""), strict=True):
        names.add_row(name, run, line(role, "dim"))
    mirroring = [replace(row, label=f"mirroring, {row.label}") for row in comparison.mirroring]
    return stack(
        [
            names,
            unfinished_table(comparison.unfinished),
            differing_table(comparison.differing, NAMES) if comparison.differing else note("the settings are the same"),
            unequal_note(comparison.unequal),
            _accuracy(comparison.accuracy) if comparison.accuracy else None,
            _mirroring(comparison.mirroring) if comparison.mirroring else None,
            *(block for change in comparison.confusion for block in _confusion_tables(change)),
            metrics_table(comparison.metrics, NAMES) or note("no run has a result"),
            tests([*comparison.accuracy, *mirroring]),
        ]
    )


def _accuracy(rows: Sequence[Contrast]) -> Block:
    parts = any(row.name == "fmnist.upright" for row in rows)
    notes = [note(_PARTS)] if parts else []
    return group(contrast_table("accuracy, %", rows, NAMES), contrast_note(rows), *notes, note(_ONE_EACH))


def _mirroring(rows: Sequence[Contrast]) -> Block:
    table = contrast_table("mirroring", rows, (SETS["mnist"], SETS["fmnist"]))
    return group(table, note(_MIRRORING)) if any(row.name == "repair" for row in rows) else table


def _confusion_tables(change: ConfusionChange) -> list[Block]:
    """The largest cells, and on F-MNIST the whole matrix."""
    title = SETS[change.set]
    if not change.changes:
        return [note(f"confusion on {title}: no cell differs")]
    largest = confusion.changes_table(change.changes, f"confusion on {title}")
    whole = confusion.difference(change.before, change.after, f"B - A on {title}, images")
    return [largest, whole] if change.set == "fmnist" else [largest]


def metrics_table(rows: Sequence[Metric], names: Sequence[str]) -> Block | None:
    """What is measured besides accuracies, of one run or of two and then their difference; None if nothing is."""
    measured = [row for row in rows if any(value is not None for value in row.values)]
    two = len(names) > 1
    table = grid("loss and cost", *names, *(["B - A"] if two else []), align="<>>>"[: 2 + 2 * two])
    for row in measured:
        values = [_cell(value, f",.{row.decimals}f") for value in row.values]
        table.add_row(row.label, *values, *([_cell(row.difference, f"+,.{row.decimals}f")] if two else []))
    return table if measured else None


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    text = f"{value:{form}}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")


def contrast_table(title: str, rows: Sequence[Contrast], names: tuple[str, str]) -> Block:
    """The comparisons, readable at 60 columns; `names` are what the table calls the first and the second."""
    first, second = names
    table = grid(title, first, second, f"{second} - {first} [95%]", align="<>><")
    for row in rows:
        change = f"{number.signed(row.difference)} {number.signed_interval(row.low, row.high)}"
        if not row.detectable:
            change += f"\n{NO_DIFFERENCE}"
        table.add_row(row.label, number.decimal(row.first.percent), number.decimal(row.second.percent), change)
    return table


def tests(rows: Sequence[Contrast]) -> Block | None:
    """How the comparisons were decided; None if there are none."""
    table = grid("tests", "lost", "gained", "p", align="<>>>")
    for row in rows:
        counts = ("-" if count is None else f"{count:,}" for count in (row.lost, row.gained))
        table.add_row(row.label, *counts, "-" if row.p is None else number.p(row.p))
    how = [
        "lost, gained: images that the first column alone, the second alone got right;",
        "p: mid-p McNemar, which decides",
    ]
    notes = [note("\n".join(how))] if any(row.unpaired is None for row in rows) else []
    return statistics(table, *notes) if rows else None


def contrast_note(rows: Sequence[Contrast]) -> Block:
    """How the rows were compared, and which were not image by image and why."""
    lines: list[str] = []
    if any(row.unpaired is None for row in rows):
        lines.append("[95%]: Tango's interval of the difference on the same images, each row alone")
    lines += [f"{row.label.strip()}: {row.told}" for row in rows if row.told]
    reasons = dict.fromkeys(row.unpaired for row in rows if row.unpaired)
    for reason in reasons:
        labels = ", ".join(row.label.strip() for row in rows if row.unpaired == reason)
        lines.append(f"compared unpaired (Newcombe's interval), because of {reason}: {labels}")
    return note("\n".join(lines))
