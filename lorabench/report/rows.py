"""A table of thousands of short lines, which Rich's own tables would take seconds for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

GAP = 2


@dataclass(frozen=True)
class Rows:
    """A renderable: heads and lines of cells, as wide as they are; nothing is folded or cut here.

    Args:
        heads: the columns' names, of which the first is the title.
        align: `<` or `>` for each column.
        lines: a cell for each column.
        styles: for each line, how its cells look; an empty one is plain.
    """

    heads: Sequence[str]
    align: str
    lines: Sequence[Sequence[str]]
    styles: Sequence[Sequence[str]]

    @property
    def widths(self) -> list[int]:
        """Terminal columns that each column takes."""
        return [max(map(cell_len, column)) for column in zip(self.heads, *self.lines, strict=True)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, line by line."""
        heads = ["bold", *["dim"] * (len(self.heads) - 1)]
        columns = list(zip(self.align, self.widths, strict=True))
        for cells, styles in zip([self.heads, *self.lines], [heads, *self.styles], strict=True):
            last = len(cells) - 1
            for index, (cell, style, (side, width)) in enumerate(zip(cells, styles, columns, strict=True)):
                blank = " " * (width - cell_len(cell))
                text = blank + cell if side == ">" else cell if index == last else cell + blank
                yield Segment(text, console.get_style(style) if style else None)
                yield Segment("\n" if index == last else " " * GAP)
