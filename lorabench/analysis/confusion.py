"""Confusion matrices: rows are true digits, columns predicted ones. Readable in colour and without.

A matrix is a list of 10 lists of 10 counts. Shades mark the cells off the diagonal by their share of the true
digit, so that a look finds what goes wrong; every shade stands behind its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Matrix = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Cell:
    """`count` images of `true` were taken for `predicted`."""

    true: int
    predicted: int
    count: int


@dataclass(frozen=True)
class CellChange:
    """Images of `true` taken for `predicted`, before and after."""

    true: int
    predicted: int
    before: int
    after: int


def summed(matrices: Iterable[Matrix]) -> list[list[int]]:
    """The sum of one matrix or more."""
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def recalls(matrix: Matrix) -> list[float | None]:
    """The share of each true digit that was recognised, in percent; None for a digit without images."""
    return [100 * row[digit] / sum(row) if sum(row) else None for digit, row in enumerate(matrix)]


def worst_cells(matrix: Matrix, n: int = 5) -> list[Cell]:
    """The `n` most frequent mistakes, the most frequent first."""
    cells = [Cell(t, p, count) for t, row in enumerate(matrix) for p, count in enumerate(row) if t != p and count]
    return sorted(cells, key=lambda cell: (-cell.count, cell.true, cell.predicted))[:n]


def largest_changes(before: Matrix, after: Matrix, n: int = 8) -> list[CellChange]:
    """The `n` mistakes whose counts changed most, the largest change first."""
    digits = range(len(before))
    cells = [CellChange(t, p, before[t][p], after[t][p]) for t in digits for p in digits if t != p]
    changed = [cell for cell in cells if cell.before != cell.after]
    return sorted(changed, key=lambda c: (-abs(c.after - c.before), c.true, c.predicted))[:n]
