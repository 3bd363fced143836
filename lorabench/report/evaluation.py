"""What `evaluate` shows: runs measured again from their checkpoints, one or two confusion matrices at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorabench.analysis.plain import plain
from lorabench.analysis.quantities import SETS
from lorabench.analysis.single import scores
from lorabench.report import confusion
from lorabench.report.fairness import held_out_note
from lorabench.report.mistakes import mistakes_data
from lorabench.report.single import score_table
from lorabench.report.style import heading, line, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.evaluate import Mistake
    from lorabench.report.blocks import Block
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
