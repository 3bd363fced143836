"""How many parameters each way to fine-tune trains, and what it has to store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.report.style import grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.parameters import SizeRow
    from lorabench.report.blocks import Block


def size_table(rows: Sequence[SizeRow]) -> Block:
    """Parameters and checkpoint bytes."""
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
