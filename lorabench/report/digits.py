"""Digits as characters: images in blocks, originals above their mirror images, and confusion matrices.

An image is drawn in half blocks, which show twice as many lines, or where the output takes no Unicode, in characters by
density. A matrix is 10 lists of 10 counts: rows are true digits, columns predicted ones. Shades mark the cells off its
diagonal by their share of the true digit, so that a look finds what goes wrong; every shade stands behind its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lorabench.analysis.single import CellChange, recalls
from lorabench.report.blocks import COOL, WARM, Beside, Block, Line, Picture, Table, grid, line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Images = npt.NDArray[np.uint8]

Matrix = Sequence[Sequence[int]]


SIZE = 18
"""Columns of one digit; it has half as many lines, since a character is twice as high as wide."""

GAP = 2
_BLOCKS = " ▀▄█"
_DENSITY = " .:-=+*#%@"
_INK = 100
"""The brightness, of 255, from which half a block is filled."""


def preview(originals: Images, changed: Images, called: str = "mirrored") -> Picture:
    """`originals` (n, 28, 28) above the same images as a shift has `changed` them: four of each at 80 columns."""

    def drawn(columns: int, ascii_only: bool) -> list[Line]:
        lines: list[Line] = []
        for caption, images in (("original", originals), (called, changed)):
            lines += [line(caption, "bold"), *beside([draw(image, ascii_only=ascii_only) for image in images], columns)]
        return lines

    return Picture(drawn, f"Digits of MNIST, and below them the same {called}.")


def beside(tiles: Sequence[Sequence[str]], columns: int) -> list[Line]:
    """The first of `tiles`, each some lines of `SIZE` characters at most, beside each other: as many as fit."""
    rows = zip(*tiles[: fitting(columns)], strict=True)
    return [line((" " * GAP).join(part.ljust(SIZE) for part in row).rstrip()) for row in rows]


def fitting(columns: int) -> int:
    """How many digits fit beside each other, one at least."""
    return max(1, (columns + GAP) // (SIZE + GAP))


def draw(image: Images, *, ascii_only: bool) -> list[str]:
    """The lines of one image (28, 28), each of `SIZE` characters: half blocks, or characters by density."""
    import numpy as np

    weights = _shrink(len(image), SIZE)
    small = weights @ image @ weights.T
    top, bottom = small[::2], small[1::2]
    if ascii_only:
        brightness = (top + bottom) / 2
        levels = np.minimum(brightness / 20, len(_DENSITY) - 1).astype(int)
        return ["".join(_DENSITY[level] for level in line) for line in levels]
    filled = (top > _INK) + 2 * (bottom > _INK)
    return ["".join(_BLOCKS[cell] for cell in line) for line in filled]


def _shrink(old: int, new: int) -> npt.NDArray[np.float64]:
    """Weights (new, old) that average `old` pixels over `new` stretches of equal length."""
    import numpy as np

    edges = np.linspace(0, old, new + 1)
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * new / old


def confusion(matrix: Matrix, title: str) -> Table:
    """Counts, `.` for none, and at each row's end the recall of that digit in percent."""
    return _shaded(matrix, title, lambda count, _: count)


def side_by_side(left: Matrix, right: Matrix, titles: tuple[str, str]) -> Beside:
    """Two matrices in percent of each true digit, so that both fit; `.` is less than half a percent."""
    pairs = zip((left, right), titles, strict=True)
    return Beside(tuple(_shaded(matrix, title, _percent, width=3) for matrix, title in pairs))


def _percent(count: int, row: Sequence[int]) -> int:
    return round(100 * count / sum(row)) if count else 0


def _shaded(matrix: Matrix, title: str, shown: Callable[[int, Sequence[int]], int], width: int = 0) -> Table:
    cells = [
        [line(str(shown(count, row) or "."), _ink(count, row, right=t == p)) for p, count in enumerate(row)]
        for t, row in enumerate(matrix)
    ]
    return _table(cells, ["" if recall is None else f"{recall:.2f}" for recall in recalls(matrix)], title, width)


def difference(before: Matrix, after: Matrix, title: str) -> Table:
    """After − before in images, with signs, and at each row's end the change of recall in points.

    Red where more goes wrong or less goes right, blue where less does.
    """
    cells: list[list[Line]] = []
    for t, (old, new) in enumerate(zip(before, after, strict=True)):
        changes = [b - a for a, b in zip(old, new, strict=True)]
        cells.append([line(f"{c:+d}" if c else ".", _change_ink(c, old, right=t == p)) for p, c in enumerate(changes)])
    pairs = zip(recalls(before), recalls(after), strict=True)
    ends = ["" if a is None or b is None else f"{b - a:+.2f}" for a, b in pairs]
    return _table(cells, ends, title)


def changes_table(changes: Sequence[CellChange], title: str = "largest changes") -> Block:
    """`3->8  879 to 57`, the largest first, four to a line."""
    table = grid(title, "", "", "", align="<<<<")
    texts = [f"{c.true}->{c.predicted}  {c.before:,} to {c.after:,}" for c in changes]
    for start in range(0, len(texts), 4):
        table.add_row(*texts[start : start + 4])
    return table


def _table(cells: Sequence[Sequence[Line]], ends: Sequence[str], title: str, width: int = 0) -> Table:
    """Cells of one width: 80 columns hold counts of five digits and a sign."""
    heads = ("", *(str(digit) for digit in range(len(cells))), "recall")
    width = width or 1 + max(len(cell.text) for row in cells for cell in row)
    table = Table(heads, "<" + ">" * (len(cells) + 1), title=title, matrix=width)
    for digit, (row, end) in enumerate(zip(cells, ends, strict=True)):
        table.add_row(line(str(digit), "dim"), *row, end)
    return table


def _ink(count: int, row: Sequence[int], *, right: bool) -> str:
    return "bold" if right else _shade(WARM, count, row)


def _change_ink(change: int, row: Sequence[int], *, right: bool) -> str:
    return _shade(WARM if (change < 0) == right else COOL, abs(change), row)


def _shade(scale: Sequence[tuple[int, str]], count: int, row: Sequence[int]) -> str:
    share = 100 * count / sum(row) if count and sum(row) else 0.0
    return next((style for least, style in scale if share >= least), "dim")
