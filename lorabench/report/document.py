"""A report as blocks of plain data: what `markdown`, `latex` and `html` write down.

    for block in blocks(study_report(runs)): ...

The report is made of Rich's own objects, and they are the document: its tables know their heads and cells, its texts
what they say. So every format shows the same rows, and whoever adds a table to the report adds it to all of them.
What has another form on paper than in a terminal is `Drawn`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Console, Group
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from lorabench.report.layout import Heading, Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

WIDTH = 80
"""The columns that a picture of characters may take."""


@dataclass(frozen=True)
class Piece:
    """Some text in one style."""

    text: str
    style: Style


@dataclass(frozen=True)
class Line:
    """Text in one style or several, and whether it heads what follows, explains what it follows, or neither.

    The text may go over several lines. The first piece of a heading is its title.
    """

    pieces: tuple[Piece, ...]
    kind: Literal["heading", "note", "text"] = "text"

    @property
    def text(self) -> str:
        """Without styles."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Table:
    """`rows` of as many cells as there are `heads`; `align` has `<` or `>` for each column.

    The cells of a `matrix` are of one width; others are as wide as what they hold.
    """

    heads: tuple[str, ...]
    align: str
    rows: tuple[tuple[Line, ...], ...]
    title: str = ""
    matrix: bool = False


@dataclass(frozen=True)
class Beside:
    """Tables that stand beside each other where there is room."""

    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Picture:
    """Lines of characters that belong below each other as they are."""

    text: str


Block = Line | Table | Beside | Picture


@dataclass(frozen=True)
class Drawn:
    """A renderable: `text` in a terminal, `block` everywhere else."""

    text: Text
    block: Block

    def __rich__(self) -> Text:
        """What a terminal prints."""
        return self.text


def blocks(report: RenderableType) -> list[Block]:
    """The report's blocks in reading order."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None)
    return list(_walk(report, console))


def styled(text: str, style: str = "") -> Line:
    """A line in one style, written as Rich writes it: `bold`, `white on #c00000`."""
    return Line((Piece(text, Style.parse(style)),))


def _walk(what: RenderableType, console: Console) -> Iterator[Block]:
    if isinstance(what, Group):
        for part in what.renderables:
            yield from _walk(part, console)
    elif isinstance(what, Drawn):
        yield what.block
    elif isinstance(what, RichTable):
        yield _table(what, console)
    elif isinstance(what, Text):
        kind = "heading" if isinstance(what, Heading) else "note" if isinstance(what, Note) else "text"
        yield Line(_pieces(what, console), kind)
    elif what != "":
        yield Picture(_printed(what, console))


def _table(table: RichTable, console: Console) -> Table:
    columns = table.columns
    cells = [[_cell(cell, console) for cell in column.cells] for column in columns]
    return Table(
        heads=tuple(_cell(column.header, console).text for column in columns),
        align="".join(">" if column.justify == "right" else "<" for column in columns),
        rows=tuple(zip(*cells, strict=True)),
    )


def _cell(cell: RenderableType, console: Console) -> Line:
    return Line(_pieces(cell, console)) if isinstance(cell, Text) else styled(_printed(cell, console))


def _pieces(text: Text, console: Console) -> tuple[Piece, ...]:
    found = Text.assemble(text).render(console)
    return tuple(Piece(part.text, part.style or Style.null()) for part in found if part.text)


def _printed(what: RenderableType, console: Console) -> str:
    with console.capture() as captured:
        console.print(what)
    return "\n".join(part.rstrip() for part in captured.get().splitlines())
