"""The report's look: tables without rules, bold headings, grey notes; nothing that NO_COLOR would lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

_SIDES: dict[str, Literal["left", "right"]] = {"<": "left", ">": "right"}


def grid(*heads: str, align: str) -> Table:
    """An empty table; `align` has `<` or `>` for each column. The first head is its title."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for index, (head, side) in enumerate(zip(heads, align, strict=True)):
        header = Text(head, "not dim bold" if index == 0 else "")
        table.add_column(header, justify=_SIDES[side], overflow="fold")
    return table


def heading(text: str, rest: str = "") -> Text:
    """A title in bold and what belongs beside it."""
    return Text.assemble((text, "bold"), f"   {rest}" if rest else "", overflow="fold")


def note(text: str) -> Text:
    """A line that explains the table above it."""
    return Text(text, "dim", overflow="fold")


def stack(sections: Iterable[RenderableType | None]) -> Group:
    """The sections that are there, an empty line between them."""
    parts: list[RenderableType] = []
    for section in sections:
        if section is not None:
            parts += ["", section] if parts else [section]
    return Group(*parts)
