"""One run in full: parameters, accuracies, parts, confusion matrix, cost, checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench import inference
from lorabench.inference import Count
from lorabench.report import confusion, number
from lorabench.report.arm import SETS, SLICES
from lorabench.report.census import census_rows, census_table
from lorabench.report.contrast import contrast_note, contrast_table, paired
from lorabench.report.overview import unfinished, unfinished_table
from lorabench.report.plain import plain
from lorabench.report.plot import training_table
from lorabench.report.setting import flatten, shown
from lorabench.report.spectrum import spectrum_rows, spectrum_table
from lorabench.report.style import grid, group, heading, line, note, stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.report.blocks import Block
    from lorabench.report.contrast import Contrast
    from lorabench.report.evidence import Digits
    from lorabench.runs import Epoch, Metrics, Run, Slice


@dataclass(frozen=True)
class Score:
    """Accuracy in percent with its 95% Wilson interval on `n` test images; `before` is the base's."""

    label: str
    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    before: float | None


def scores(run: Run) -> list[Score]:
    """A row for each test set, followed by the parts of F-MNIST that have images."""
    rows: list[Score] = []
    for name, title in SETS.items():
        if name in run.metrics:
            found, before = run.metrics[name], run.before.get(name)
            rows.append(_score(title, found, before))
            old = before.slices if before else {}
            parts = [(part, found.slices[part]) for part in SLICES if part in found.slices]
            rows += [_score(f"  {SLICES[part]}", counts, old.get(part)) for part, counts in parts if counts.n]
    return rows


def _score(label: str, found: Metrics | Slice, before: Metrics | Slice | None) -> Score:
    count = Count(found.correct, found.n)
    old = 100 * before.correct / before.n if before and before.n else None
    return Score(label, count.n, count.correct, count.percent, *inference.one_run(count), old)


def score_table(rows: Sequence[Score]) -> Block:
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
        "census": plain(census_rows(run)) if run.stage == "fmnist" else [],
        "delta_w": plain(spectrum_rows(run)),
        "history": [epoch.model_dump() for epoch in history],
        "unfinished": plain(unfinished([run])),
    }


def run_report(
    run: Run,
    predictions: Mapping[str, Digits] | None = None,
    labels: Digits | None = None,
    history: Sequence[Epoch] = (),
) -> Block:
    """One run in full, readable at 80 columns; paired with its base where `before_and_after` can."""
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
            census_table(census_rows(run)) if run.stage == "fmnist" and run.checks else None,
            *(_confusion(name, run.metrics[name]) for name in SETS if name in run.metrics),
            training_table(history),
            spectrum_table(spectrum_rows(run)) if spectrum_rows(run) else None,
            facts({key: shown(value) for key, value in flatten(run.settings).items()}, "settings"),
            facts({key: value for key, value in run.parents.model_dump().items() if value}, "made from"),
            facts(_cost(run), "cost"),
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
    worst = "   ".join(f"{c.true}->{c.predicted} {c.count}" for c in confusion.worst_cells(metrics.confusion))
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


def _cost(run: Run) -> dict[str, str]:
    if run.cost is None:
        return {}
    cost = run.cost
    peak, before = cost.peak_rss_bytes, cost.rss_before_bytes
    memory = {} if peak is None else {"memory": _memory(peak, before)}
    return {
        "training": f"{number.seconds(cost.train_s)}, {cost.steps:,} steps of {cost.step_ms:.2f} ms",
        "speed": f"{cost.images_per_s:,.0f} images/s",
        "all": number.seconds(cost.wall_s),
        **memory,
    }


def _memory(peak: int, before: int | None) -> str:
    """What the process held at most: while it trained, or if that is not known, in its life."""
    if before is None:
        return f"{peak / 1e6:,.0f} MB at most in the process, earlier runs included"
    return f"{before / 1e6:,.0f} MB before training, at most {peak / 1e6:,.0f} MB in it"


def _checks(run: Run) -> dict[str, str]:
    """What the run verified. A hash is named by its first digits; the rest has tables of its own."""
    if run.stage == "fmnist":
        return {}
    texts = {key: shown(value) for key, value in run.checks.items() if key != "delta_w"}
    return {key.replace("_", " "): text[:12] if key.endswith("sha256") else text for key, text in texts.items()}
