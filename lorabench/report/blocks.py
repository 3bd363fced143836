"""The document that a report is: blocks of plain data, which every writer writes down in its own way.

A block is a `Line`, a `Table`, tables `Beside` each other, a `Picture` or a `Document` of blocks. `style` builds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

WIDTH = 80
"""Columns of a page of characters: a file of text, and what every report fits."""
WARM = ((20, "#ffffff on #b00000"), (8, "#000000 on #f0703a"), (3, "#000000 on #f0b080"), (1, "#000000 on #f6dcc4"))
COOL = ((20, "#ffffff on #0050a0"), (8, "#000000 on #5a9bd0"), (3, "#000000 on #9ab8d0"), (1, "#000000 on #d4e2ee"))
"""Shades of a confusion's cells, from this percentage of the true digit on. Ink and paper, at least 4.5 to 1, so that
they read on any screen.
"""


class Piece(NamedTuple):
    """Some text in one style: `bold`, `dim`, `red`, `white on #c00000`, or none."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Text in one style or several, and whether it heads what follows, explains what it follows, or neither.

    The text may go over several lines, and is folded where it is too long, unless `folds` is False. The first piece of
    a heading is its title.
    """

    pieces: tuple[Piece, ...]
    kind: Literal["heading", "note", "text"] = "text"
    folds: bool = True

    @property
    def text(self) -> str:
        """Without styles."""
        return "".join(piece.text for piece in self.pieces)

    def __add__(self, other: Line | str) -> Line:
        """This line, which goes on with `other`."""
        pieces = (Piece(other),) if isinstance(other, str) else other.pieces
        return Line((*self.pieces, *pieces), self.kind, self.folds)


@dataclass
class Table:
    """Rows of as many cells as there are `heads`, of which the first is the table's own name.

    Attributes:
        heads: one for each column; all empty: no line of heads is shown.
        align: `<` or `>` for each column.
        rows: their cells.
        title: of a matrix, whose first head is empty.
        matrix: how many columns of a terminal each cell of a matrix takes; 0: the columns are as wide as their cells.
        gap: between two columns.
        folds: whether cells are folded where the table is too wide; thousands of rows are written faster without.
    """

    heads: tuple[str, ...]
    align: str
    rows: list[tuple[Line, ...]] = field(default_factory=list[tuple[Line, ...]])
    title: str = ""
    matrix: int = 0
    gap: int = 2
    folds: bool = True

    def add_row(self, *cells: Line | str) -> None:
        """Add a row; the cells that it lacks at its end are empty.

        Raises:
            ValueError: it has more cells than the table has columns.
        """
        if len(cells) > len(self.heads):
            raise ValueError(f"{len(cells)} cells for {len(self.heads)} columns")
        filled = (*cells, *[""] * (len(self.heads) - len(cells)))
        self.rows.append(tuple(cell if isinstance(cell, Line) else Line((Piece(cell),)) for cell in filled))


@dataclass(frozen=True)
class Beside:
    """Matrices that stand beside each other where there is room; a terminal numbers the rows of the first alone."""

    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Picture:
    """Lines of characters that belong below each other as they are.

    `draw` is given the columns that there are and whether only ASCII may be used; `alt` says what is to be seen.
    """

    draw: Callable[[int, bool], Sequence[Line]]
    alt: str

    @property
    def text(self) -> str:
        """As a page of characters shows it."""
        return "\n".join(line.text.rstrip() for line in self.draw(WIDTH, False))


@dataclass(frozen=True)
class Document:
    """Blocks in reading order, an empty line between them if they stand `apart`; `plain` leaves `statistics` out."""

    parts: tuple[Block, ...]
    apart: bool = False
    statistics: bool = False


Block = Line | Table | Beside | Picture | Document


WHOLE = re.compile(r"(\[[^]]*\]|\([-+\d., ]+\)|\+- \S+|p [<=] \S+|\d+ x \d+|\d->\d  \S+ to \S+)")
"""What is not folded within: `[97.99, 98.23]`, `(93.01, 93.61)`, `+- 0.16`, `p < 0.0001`, `256 x 784`."""


def unbroken(text: str, glue: str) -> str:
    """`text` with `glue` for the blanks of what is not folded."""
    return WHOLE.sub(lambda found: found[0].replace(" ", glue), text)


def plain(block: Block) -> Block:
    """`block` without its tests and what they say."""
    if not isinstance(block, Document):
        return block
    kept = (part for part in block.parts if not (isinstance(part, Document) and part.statistics))
    return replace(block, parts=tuple(map(plain, kept)))


def leaves(block: Block) -> Iterator[Line | Table | Beside | Picture]:
    """The blocks in reading order, without the documents that hold them."""
    if isinstance(block, Document):
        for part in block.parts:
            yield from leaves(part)
    else:
        yield block


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


def statistics(*parts: Block) -> Document:
    """A group of what tests say."""
    return Document(parts, statistics=True)


def stack(sections: Iterable[Block | None]) -> Document:
    """The sections that are there, an empty line between them."""
    return Document(tuple(section for section in sections if section is not None), apart=True)
