"""What an F-MNIST run mirrored: images per digit and split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
