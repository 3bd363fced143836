"""What `evaluate` shows: runs measured again from their checkpoints, and with --show-errors their mistakes, drawn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lorabench.analysis.plain import plain
from lorabench.analysis.quantities import SETS
from lorabench.analysis.single import scores
from lorabench.report import confusion
from lorabench.report.blocks import Picture
from lorabench.report.digits import beside, draw, fitting
from lorabench.report.fairness import held_out_note
from lorabench.report.single import score_table
from lorabench.report.style import heading, line, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.evaluate import Mistake
    from lorabench.report.blocks import Block, Line
    from lorabench.runs import Run


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
