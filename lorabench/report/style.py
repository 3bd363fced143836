"""The report's look: tables without rules, bold headings, grey notes; nothing that NO_COLOR would lose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.report.blocks import Document, Line, Piece, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lorabench.report.blocks import Block


def grid(*heads: str, align: str) -> Table:
    """An empty table; `align` has `<` or `>` for each column. The first head is its title."""
    if len(heads) != len(align):
        raise ValueError(f"{len(heads)} heads, and align={align!r}")
    return Table(heads, align)


def line(text: str, style: str = "", *, folds: bool = True) -> Line:
    """A line, or a cell, in one style."""
    return Line((Piece(text, style),), folds=folds)


def heading(text: str, rest: str = "") -> Line:
    """A title in bold and what belongs beside it."""
    return Line((Piece(text, "bold"), *([Piece(f"   {rest}")] if rest else [])), "heading")


def note(text: str) -> Line:
    """A line that explains the table above it."""
    return Line((Piece(text, "dim"),), "note")


def group(*parts: Block) -> Document:
    """What belongs together, each part right below the one before."""
    return Document(parts)


def stack(sections: Iterable[Block | None]) -> Document:
    """The sections that are there, an empty line between them."""
    return Document(tuple(section for section in sections if section is not None), apart=True)
