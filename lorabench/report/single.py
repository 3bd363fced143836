"""One run in full: parameters, accuracies, parts, confusion matrix, cost, checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.analysis.comparison import metrics_of
from lorabench.analysis.confusion import worst_cells
from lorabench.analysis.fairness import unfinished
from lorabench.analysis.plain import flatten, shown
from lorabench.analysis.quantities import SETS
from lorabench.analysis.single import RunAccuracy, before_and_after, class_counts, scores, spectrum_rows
from lorabench.report import confusion
from lorabench.report.compare import metrics_table
from lorabench.report.contrast import contrast_note, contrast_table
from lorabench.report.fairness import unfinished_table
from lorabench.report.plot import training_table
from lorabench.report.style import grid, group, heading, line, note, stack
from lorabench.report.tables import class_counts_table, spectrum_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.analysis.predictions import Digits
    from lorabench.report.blocks import Block
    from lorabench.runs import Epoch, Metrics, Run


def score_table(rows: Sequence[RunAccuracy]) -> Block:
    """The rows as a table; the column of the base only if there is one."""
    tuned = any(row.before is not None for row in rows)
    heads = ["accuracy, %", "[95% Wilson interval]", *(["base"] if tuned else []), "images"]
    table = grid(*heads, align="<<" + ">" * (len(heads) - 2))
    for row in rows:
        cells = [row.label, f"{number.decimal(row.accuracy)} {number.interval(row.low, row.high)}"]
        if tuned:
            cells.append(number.decimal(row.before) if row.before is not None else "-")
        table.add_row(*cells, f"{row.n:,}")
    return table


def run_report(
    run: Run,
    predictions: Mapping[str, Digits] | None = None,
    labels: Digits | None = None,
    history: Sequence[Epoch] = (),
) -> Block:
    """One run in full, readable at 80 columns; paired with its base where `before_and_after` can."""
    from lorabench.data.shifts import named

    title = heading(run.id, run.status)
    rows = scores(run)
    change = before_and_after(predictions, labels)
    return stack(
        [
            title,
            unfinished_table(unfinished([run])),
            line(parameters_line(run)) if run.params else None,
            score_table(rows) if rows else None,
            group(contrast_table("same images, %", change, ("base", "tuned")), contrast_note(change))
            if change
            else None,
            class_counts_table(class_counts(run), named(run.settings).word)
            if run.stage == "fmnist" and run.checks
            else None,
            *(_confusion(name, run.metrics[name]) for name in SETS if name in run.metrics),
            training_table(history),
            spectrum_table(spectrum_rows(run)) if spectrum_rows(run) else None,
            facts({key: shown(value) for key, value in flatten(run.settings).items()}, "settings"),
            facts({key: value for key, value in run.parents.model_dump().items() if value}, "made from"),
            metrics_table(metrics_of([run]), [""]),
            facts(_checks(run), "checks"),
        ]
    )


def parameters_line(run: Run) -> str:
    """`trains 6,248 of 241,394 parameters; checkpoint 25,616 B`."""
    if run.params is None:
        return ""
    stored = f"; checkpoint {run.checkpoint_bytes:,} B" if run.checkpoint_bytes else ""
    return f"trains {run.params.trainable:,} of {run.params.total:,} parameters{stored}"


def _confusion(name: str, metrics: Metrics) -> Block:
    worst = "   ".join(f"{c.true}->{c.predicted} {c.count}" for c in worst_cells(metrics.confusion))
    matrix = confusion.confusion(metrics.confusion, f"confusion on {SETS[name]} (rows true, columns predicted)")
    return group(matrix, note(f"worst  {worst}")) if worst else matrix


def facts(found: Mapping[str, str], title: str) -> Block | None:
    """Names and values, one to a line; None if there are none."""
    if not found:
        return None
    table = grid(title, "", align="<<")
    for key, value in found.items():
        table.add_row(key, value)
    return table


def _checks(run: Run) -> dict[str, str]:
    """What the run verified. A hash is named by its first digits; the rest has tables of its own."""
    if run.stage == "fmnist":
        return {}
    texts = {key: shown(value) for key, value in run.checks.items() if key != "delta_w"}
    return {key.replace("_", " "): text[:12] if key.endswith("sha256") else text for key, text in texts.items()}
