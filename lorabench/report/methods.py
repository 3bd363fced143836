"""A study's ways to fine-tune side by side: what each gives, what it forgets, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import inference, number
from lorabench.report.accuracy import told, with_n
from lorabench.report.style import grid, group, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.inference import Difference, Estimate
    from lorabench.analysis.methods import MethodRow
    from lorabench.report.blocks import Block


def methods_tables(rows: Sequence[MethodRow], reference: str) -> Block:
    """Three tables: what all methods give, those of the reference's size among them, and what all forget and cost.

    `reference` is the label of the row that the others are compared with.
    """
    trained = next(row.trained for row in rows if row.label == reference)
    matched = [row for row in rows if row.matched]
    title = f"about {trained:,} parameters" if trained else ""
    seeds = max((row.fmnist.n for row in rows if row.fmnist), default=0)
    if seeds < inference.FEWEST:
        how = f"{number.seeds(seeds)}: no interval; run {inference.FEWEST} or more to compare"
    else:
        how = f"mean over {number.seeds(seeds)} +- half of the 95% t interval over trainings, on these test images;\n"
        how += "differences are paired by seed, each interval at 95% alone; whether there is one is\n"
        how += (
            f"decided by the paired t test and Holm, for {max((r.versus.of for r in rows if r.versus), default=1)} rows"
        )
    cost = (
        "forgotten: on MNIST, base - tuned, points; stored: bytes of the checkpoint;\n"
        "ms: a training step, as it was in this study; folds: into plain linear layers;\n"
        "rank: how many singular directions hold 90% of the squared change of fc1's weight"
    )
    return stack(
        [
            group(_results("every method", rows, reference), note(how)),
            _results(title, matched, reference) if 1 < len(matched) < len(rows) else None,
            group(_costs(rows), note(cost)),
        ]
    )


def _results(title: str, rows: Sequence[MethodRow], reference: str) -> Block:
    table = grid(title, "F-MNIST, %", "flipped, %", f"F-MNIST - {reference}", align="<<<<")
    for row in rows:
        n = row.fmnist.n if row.fmnist else 0
        table.add_row(row.label, _plus_minus(row.fmnist), _flipped(row.flipped), _versus(row.versus, n))
    return table


def _flipped(found: Estimate | None) -> str:
    """Without an interval the mean alone: each seed's value stands beside it, of all images."""
    return number.decimal(found.mean) if found and found.high is None else _plus_minus(found)


def _costs(rows: Sequence[MethodRow]) -> Block:
    table = grid("cost", "MNIST", "forgotten", "trained", "stored", "ms", "folds", "rank", align="<><>>>>>")
    for row in rows:
        table.add_row(
            row.label,
            number.decimal(row.mnist.mean) if row.mnist else "",
            _plus_minus(row.forgotten, sign=True),
            f"{row.trained:,}" if row.trained is not None else "",
            f"{row.stored_bytes:,}" if row.stored_bytes is not None else "",
            number.decimal(row.step_ms.mean) if row.step_ms else "",
            {True: "yes", False: "no", None: ""}[row.merges],
            f"{row.rank90['fc1']:.0f}" if "fc1" in row.rank90 else "",
        )
    return table


def _plus_minus(found: Estimate | None, *, sign: bool = False) -> str:
    if found is None:
        return ""
    text = number.plus_minus(found, sign=sign)
    return f"{text}\nseeds: {number.values(found)}" if found.scattered else text


def _versus(found: Difference | None, n: int) -> str:
    return told(with_n(_plus_minus(found.estimate, sign=True), found.estimate, n), found) if found else ""
