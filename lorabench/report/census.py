"""What an F-MNIST run mirrored: images per digit and split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.report.style import grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.class_counts import CensusRow
    from lorabench.report.blocks import Block


def census_table(rows: Sequence[CensusRow]) -> Block:
    """The rows as a table."""
    table = grid("mirrored", "digit", "images", "of", "share", align="<>>>>")
    for row in rows:
        table.add_row(row.split, str(row.digit), f"{row.flipped:,}", f"{row.images:,}", f"{row.share:.2f}%")
    return table
