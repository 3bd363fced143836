"""One run in full: parameters, accuracies, parts, confusion matrix, cost, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lorabench.analysis import number
from lorabench.analysis.comparison import metrics_of
from lorabench.analysis.confusion import worst_cells
from lorabench.analysis.fairness import unfinished
from lorabench.analysis.number import flatten, plain, shown
from lorabench.analysis.quantities import SETS
from lorabench.analysis.single import RunAccuracy, before_and_after, class_counts, scores, spectrum_rows
from lorabench.report import confusion
from lorabench.report.blocks import Block, Document, Line, Picture, grid, group, heading, line, note, stack
from lorabench.report.compare import contrast_note, contrast_table, metrics_table, tests
from lorabench.report.digits import beside, draw, fitting
from lorabench.report.plot import training_table
from lorabench.report.tables import class_counts_table, held_out_note, spectrum_table, unfinished_table
from lorabench.runs import Epoch, Metrics, Run

if TYPE_CHECKING:
    from lorabench.analysis.paired import Digits
    from lorabench.evaluate import Mistake


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
) -> Document:
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
            tests(change or []),
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


def facts(rows: Mapping[str, str], title: str) -> Block | None:
    """Names and values, one to a line; None if there are none."""
    if not rows:
        return None
    table = grid(title, "", align="<<")
    for key, value in rows.items():
        table.add_row(key, value)
    return table


def _checks(run: Run) -> dict[str, str]:
    """What the run verified. A hash is named by its first digits; the rest has tables of its own."""
    if run.stage == "fmnist":
        return {}
    texts = {key: shown(value) for key, value in run.checks.items() if key != "delta_w"}
    return {key.replace("_", " "): text[:12] if key.endswith("sha256") else text for key, text in texts.items()}


def evaluation_data(run: Run, wrong: Sequence[Mistake] | None = None) -> dict[str, Any]:
    """Metrics of one run, with accuracies in percent, intervals, and recall by digit; and its mistakes, if given."""
    return {
        "id": run.id,
        "metrics": {name: metrics.model_dump(mode="json") for name, metrics in run.metrics.items()},
        "accuracy": plain(scores(run)),
        "recalls": {name: confusion.recalls(metrics.confusion) for name, metrics in run.metrics.items()},
        **({} if wrong is None else {"errors": mistakes_data(wrong)}),
    }


def evaluation(runs: Sequence[Run]) -> Block:
    """Accuracies of all runs, then confusion matrices side by side.

    One run: MNIST beside F-MNIST. Several: F-MNIST of the first beside F-MNIST of each other one.
    """
    blocks: list[Block | None] = [held_out_note(runs)]
    for run in runs:
        losses = ", ".join(f"{SETS[name]} {metrics.loss:.4f}" for name, metrics in run.metrics.items())
        blocks += [heading(run.id), score_table(scores(run)), line(f"loss in nats: {losses}")]
    first = runs[0]
    if len(runs) == 1:
        titles = (SETS["mnist"], SETS["fmnist"])
        pairs = [(first.metrics["mnist"], first.metrics["fmnist"], titles)]
    else:
        pairs = [(first.metrics["fmnist"], other.metrics["fmnist"], (first.id, other.id)) for other in runs[1:]]
    caption = "% of each true digit (rows) taken for each digit (columns), and at the end its recall"
    blocks.append(line(caption if len(runs) == 1 else f"F-MNIST: {caption}", "dim"))
    blocks += [confusion.side_by_side(left.confusion, right.confusion, titles) for left, right, titles in pairs]
    return stack(blocks)


_LEGEND = "true digit as prediction, confidence (softmax); #index in the test set"


def mistakes_data(wrong: Sequence[Mistake]) -> list[dict[str, Any]]:
    """All of them as plain data, without their pixels; confidences are fractions."""
    keys = ("index", "true", "predicted", "confidence", "flipped")
    return [{key: getattr(mistake, key) for key in keys} for mistake in wrong]


def mistakes(run: Run, wrong: Sequence[Mistake], limit: int, word: str) -> Block:
    """How many F-MNIST test images a run gets wrong, and the first `limit` of them as pictures.

    `word` is the shift's for the images that it changes.
    """
    changed = sum(mistake.flipped for mistake in wrong)
    counts = f"{len(wrong):,} of {run.metrics['fmnist'].n:,} F-MNIST test images wrong, {changed:,} of them {word}"
    return stack(
        [
            heading(run.id),
            note(f"{counts}\nmost confident first: {_LEGEND}") if wrong else note(counts),
            Picture(partial(_gallery, wrong[:limit], word), f"The first {min(limit, len(wrong))} of them.")
            if wrong
            else None,
        ]
    )


def _gallery(wrong: Sequence[Mistake], word: str, columns: int, ascii_only: bool) -> list[Line]:
    """Each image below its two lines of caption, as many side by side as fit, four at 80 columns."""
    lines: list[Line] = []
    for start in range(0, len(wrong), fitting(columns)):
        row = wrong[start : start + fitting(columns)]
        tiles = [[*_caption(mistake, word), *draw(mistake.image, ascii_only=ascii_only)] for mistake in row]
        lines += [*([line("")] if lines else []), *beside(tiles, columns)]
    return lines


def _caption(mistake: Mistake, word: str) -> tuple[str, str]:
    confidence = f"{100 * mistake.confidence:.1f}%"
    return f"{mistake.true} as {mistake.predicted}  {confidence}", f"#{mistake.index}{f'  {word}' * mistake.flipped}"
