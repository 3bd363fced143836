"""One run, in full and as a command ends with it; and two runs, of which the first is the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.analysis import number
from lorabench.analysis.comparison import NAMES, Comparison, ConfusionChange
from lorabench.analysis.fairness import unfinished
from lorabench.analysis.number import NO_DIFFERENCE, flatten, plain, shown
from lorabench.analysis.paired import Contrast
from lorabench.analysis.quantities import SETS, SLICES
from lorabench.analysis.single import (
    Metric,
    RunAccuracy,
    before_and_after,
    class_counts,
    metrics_of,
    recalls,
    scores,
    spectrum_rows,
    worst_cells,
)
from lorabench.report import digits
from lorabench.report.blocks import Block, Document, Line, Picture, grid, group, heading, line, note, stack, statistics
from lorabench.report.plot import training_table
from lorabench.report.tables import (
    class_counts_table,
    differing_table,
    held_out_note,
    spectrum_table,
    unequal_note,
    unfinished_table,
)
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

    rows, spectra = scores(run), spectrum_rows(run)
    change = before_and_after(predictions, labels) or []
    # What an F-MNIST changed has a table of its own, and so has the change of the weights.
    checks = {key: shown(value) for key, value in run.checks.items() if key != "delta_w" and run.stage != "fmnist"}
    named_checks = {
        key.replace("_", " "): text[:12] if key.endswith("sha256") else text for key, text in checks.items()
    }
    return stack(
        [
            heading(run.id, run.status),
            unfinished_table(unfinished([run])),
            parameters_line(run),
            score_table(rows) if rows else None,
            group(contrast_table("same images, %", change, ("base", "tuned")), contrast_note(change))
            if change
            else None,
            class_counts_table(class_counts(run), named(run.settings).word)
            if run.stage == "fmnist" and run.checks
            else None,
            *(_confusion(name, run.metrics[name]) for name in SETS if name in run.metrics),
            training_table(history),
            spectrum_table(spectra) if spectra else None,
            facts({key: shown(value) for key, value in flatten(run.settings).items()}, "settings"),
            facts({key: value for key, value in run.parents.model_dump().items() if value}, "made from"),
            metrics_table(metrics_of([run]), [""]),
            facts(named_checks, "checks"),
            tests(change),
        ]
    )


def parameters_line(run: Run) -> Line | None:
    """`trains 6,248 of 241,394 parameters; checkpoint 25,616 B`."""
    if run.params is None:
        return None
    stored = f"; checkpoint {run.checkpoint_bytes:,} B" if run.checkpoint_bytes else ""
    return line(f"trains {run.params.trainable:,} of {run.params.total:,} parameters{stored}")


def _confusion(name: str, metrics: Metrics) -> Block:
    worst = "   ".join(f"{c.true}->{c.predicted} {c.count}" for c in worst_cells(metrics.confusion))
    matrix = digits.confusion(metrics.confusion, f"confusion on {SETS[name]} (rows true, columns predicted)")
    return group(matrix, note(f"worst  {worst}")) if worst else matrix


def facts(rows: Mapping[str, str], title: str) -> Block | None:
    """Names and values, one to a line; None if there are none."""
    if not rows:
        return None
    table = grid(title, "", align="<<")
    for key, value in rows.items():
        table.add_row(key, value)
    return table


def summary_data(run: Run, *, cached: bool, folder: Path, next_command: str) -> dict[str, Any]:
    """What `summary` shows, as plain data."""
    return {
        "id": run.id,
        "cached": cached,
        "accuracy": plain(scores(run)),
        "params": plain(run.params.model_dump()) if run.params else None,
        "checkpoint_bytes": run.checkpoint_bytes,
        "cost": run.cost.model_dump() if run.cost else None,
        "census": plain(class_counts(run)) if run.stage == "fmnist" else [],
        "folder": str(folder),
        "next": next_command,
    }


def summary(run: Run, *, cached: bool, folder: Path) -> Block:
    """How a command ends that made a run, or found it `cached`; `folder` as the user should read it."""
    how = "there already, not run again" if cached else "done"
    if run.cost and not cached:
        how = f"ran {number.seconds(run.cost.train_s)}, {run.cost.images_per_s:,.0f} images/s"
    rows = scores(run)
    parts = [heading(run.id, how), score_table(rows) if rows else None, held_out_note([run])]
    if run.stage == "fmnist":
        from lorabench.data import shifts

        # How many images of which digits stands in the table.
        asked = [f"{key} {value}" for key, value in run.settings.items() if key not in {"fraction", "classes"}]
        hashes = ", ".join(f"{split} {counts['sha256'][:12]}" for split, counts in run.checks.items())
        parts.append(class_counts_table(class_counts(run), shifts.named(run.settings).word))
        parts.append(line(", ".join([*asked, f"sha256 {hashes}"])))
    return group(*filter(None, [*parts, parameters_line(run), line(str(folder))]))


def evaluation_data(run: Run, wrong: Sequence[Mistake] | None = None) -> dict[str, Any]:
    """Metrics of one run, with accuracies in percent, intervals, and recall by digit; and its mistakes, if given.

    Confidences are fractions.
    """
    keys = ("index", "true", "predicted", "confidence", "flipped")
    errors = [{key: getattr(mistake, key) for key in keys} for mistake in wrong or ()]
    return {
        "id": run.id,
        "metrics": {name: metrics.model_dump(mode="json") for name, metrics in run.metrics.items()},
        "accuracy": plain(scores(run)),
        "recalls": {name: recalls(metrics.confusion) for name, metrics in run.metrics.items()},
        **({} if wrong is None else {"errors": errors}),
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
    blocks += [digits.side_by_side(left.confusion, right.confusion, titles) for left, right, titles in pairs]
    return stack(blocks)


def mistakes(run: Run, wrong: Sequence[Mistake], limit: int, word: str) -> Block:
    """How many F-MNIST test images a run gets wrong, and the first `limit` of them as pictures.

    `word` is the shift's for the images that it changes.
    """
    changed = sum(mistake.flipped for mistake in wrong)
    counts = f"{len(wrong):,} of {run.metrics['fmnist'].n:,} F-MNIST test images wrong, {changed:,} of them {word}"
    if not wrong:
        return stack([heading(run.id), note(counts)])
    legend = "most confident first: true digit as prediction, confidence (softmax); #index in the test set"
    drawn = Picture(partial(_gallery, wrong[:limit], word), f"The first {min(limit, len(wrong))} of them.")
    return stack([heading(run.id), note(f"{counts}\n{legend}"), drawn])


def _gallery(wrong: Sequence[Mistake], word: str, columns: int, ascii_only: bool) -> list[Line]:
    """Each image below its two lines of caption, as many side by side as fit, four at 80 columns."""
    tiles = [
        [
            f"{mistake.true} as {mistake.predicted}  {100 * mistake.confidence:.1f}%",
            f"#{mistake.index}{f'  {word}' if mistake.flipped else ''}",
            *digits.draw(mistake.image, ascii_only=ascii_only),
        ]
        for mistake in wrong
    ]
    lines: list[Line] = []
    for start in range(0, len(tiles), digits.fitting(columns)):
        lines += [*([line("")] if lines else []), *digits.beside(tiles[start:], columns)]
    return lines


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
    upright = note(f"{SLICES['upright']}: images of the same digits that F-MNIST left as they are")
    return group(
        contrast_table("accuracy, %", rows, NAMES),
        contrast_note(rows),
        *([upright] if any(row.name == "fmnist.upright" for row in rows) else []),
        note("1 run of each: the intervals are over test images and say nothing of other seeds"),
    )


def _mirroring(rows: Sequence[Contrast]) -> Block:
    table = contrast_table("mirroring", rows, (SETS["mnist"], SETS["fmnist"]))
    repair = any(row.name == "repair" for row in rows)
    return group(table, note("A to B: B on F-MNIST less A on MNIST")) if repair else table


def _confusion_tables(change: ConfusionChange) -> list[Block]:
    """The largest cells, and on F-MNIST the whole matrix."""
    title = SETS[change.set]
    if not change.changes:
        return [note(f"confusion on {title}: no cell differs")]
    largest = digits.changes_table(change.changes, f"confusion on {title}")
    whole = digits.difference(change.before, change.after, f"B - A on {title}, images")
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
