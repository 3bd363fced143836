"""The small tables that several reports share: sizes, class counts, changes of the weights, what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis.plain import shown
from lorabench.report.style import grid, group, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.comparison import Fact
    from lorabench.analysis.single import ClassCount, SpectrumRow
    from lorabench.analysis.study import SizeRow
    from lorabench.report.blocks import Block


def size_table(rows: Sequence[SizeRow]) -> Block:
    """How many parameters each way to fine-tune trains, and what it has to store."""
    table = grid("parameters", "total", "trained", "of the base", "checkpoint", align="<>>>>")
    for row in rows:
        table.add_row(
            row.label,
            f"{row.total:,}",
            f"{row.trainable:,}",
            f"{row.share:.2f}%" if row.share is not None else "",
            f"{row.checkpoint_bytes:,} B" if row.checkpoint_bytes is not None else "",
        )
    return table


def class_counts_table(rows: Sequence[ClassCount], word: str) -> Block:
    """What an F-MNIST run changed: images per digit and split; `word` is its shift's for them."""
    table = grid(word, "digit", "images", "of", "share", align="<>>>>")
    for row in rows:
        table.add_row(row.split, str(row.digit), f"{row.flipped:,}", f"{row.images:,}", f"{row.share:.2f}%")
    return table


def spectrum_table(rows: Sequence[SpectrumRow]) -> Block:
    """How far, and in how many directions, a fine-tune moved each weight matrix: ΔW = W1 − W0."""
    table = grid("change of the weights", "Frobenius norm", "stable rank", "rank at 90%", align="<>>>")
    for row in rows:
        table.add_row(row.layer, f"{row.frobenius:.3f}", f"{row.stable_rank:.2f}", f"{row.rank90}")
    return group(table, note("rank at 90%: how many singular directions hold 90% of the squared norm"))


def differing_table(rows: Sequence[Fact], names: Sequence[str]) -> Block:
    """What is not the same in runs that are compared, under its kind; `names` are what the table calls the runs."""
    table = grid("what differs", "", *names, align="<<" + "<" * len(names))
    last = ""
    for row in rows:
        values = [shown(value)[:12] if row.key in ("commit", "weights") else shown(value) for value in row.values]
        table.add_row(row.kind if row.kind != last else "", row.key, *values)
        last = row.kind
    return table
