"""What an F-MNIST run mirrored: images per digit and split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabench.report.style import grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.report.blocks import Block
    from lorabench.runs import Run


@dataclass(frozen=True)
class CensusRow:
    """`flipped` of the `images` of one digit in one split; `share` in percent."""

    split: str
    digit: int
    images: int
    flipped: int
    share: float


def census_rows(run: Run) -> list[CensusRow]:
    """A row for every digit of every split that has mirrored images; none if the run did not come so far."""
    rows: list[CensusRow] = []
    for split, counts in run.checks.items():
        for digit, (images, flipped) in enumerate(zip(counts["images"], counts["flipped"], strict=True)):
            if flipped:
                rows.append(CensusRow(split, digit, images, flipped, 100 * flipped / images))
    return rows


def census_table(rows: Sequence[CensusRow]) -> Block:
    """The rows as a table."""
    table = grid("mirrored", "digit", "images", "of", "share", align="<>>>>")
    for row in rows:
        table.add_row(row.split, str(row.digit), f"{row.flipped:,}", f"{row.images:,}", f"{row.share:.2f}%")
    return table
