"""The report's look: tables without rules, bold headings, grey notes; nothing that NO_COLOR would lose.

These are Rich's own objects, so that a terminal prints them as they are; `document` reads them for the other formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType
    from rich.style import StyleType

_SIDES: dict[str, Literal["left", "right"]] = {"<": "left", ">": "right"}


class Heading(Text):
    """A title, in bold, and after it what belongs beside it."""


class Note(Text):
    """A line that explains what stands above it."""


class Grid(Table):
    """A table whose cells are taken at their word: Rich's own reads `[red]` in a string as a colour."""

    def add_row(
        self, *renderables: RenderableType | None, style: StyleType | None = None, end_section: bool = False
    ) -> None:
        """Add a row; a cell is a string or a `Text`."""
        cells = [Text(cell) if isinstance(cell, str) else cell for cell in renderables]
        super().add_row(*cells, style=style, end_section=end_section)


def grid(*heads: str, align: str) -> Table:
    """An empty table; `align` has `<` or `>` for each column. The first head is its title."""
    table = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for index, (head, side) in enumerate(zip(heads, align, strict=True)):
        header = Text(head, "not dim bold" if index == 0 else "")
        table.add_column(header, justify=_SIDES[side], overflow="fold")
    return table


def heading(text: str, rest: str = "") -> Text:
    """A title in bold and what belongs beside it."""
    return Heading.assemble((text, "bold"), f"   {rest}" if rest else "", overflow="fold")


def note(text: str) -> Text:
    """A line that explains the table above it."""
    return Note(text, "dim", overflow="fold")


def stack(sections: Iterable[RenderableType | None]) -> Group:
    """The sections that are there, an empty line between them."""
    parts: list[RenderableType] = []
    for section in sections:
        if section is not None:
            parts += ["", section] if parts else [section]
    return Group(*parts)
