"""The report in a terminal, by Rich: `console.print(renderable(document))`; and as a file of plain text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text
from rich.theme import Theme

from lorabench.errors import shown
from lorabench.report.blocks import COOL, WARM, WIDTH, Beside, Block, Document, Line, Picture, Table, unbroken
from lorabench.report.writers import Report

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType, RenderResult

_MARKS = ("bold reverse", "reverse", "bold", "none")
"""Shades without colours, the strongest first."""

_SIDES: dict[str, Literal["left", "right"]] = {"<": "left", ">": "right"}
STYLES = {
    "dim": "none",
    "red": "#ffffff on #b3261e",
    "green": "#ffffff on #1a7340",
    "yellow": "#000000 on #e5b567",
}
"""What a style is where a terminal has colours of its own: ink and paper, since nobody knows the screen's paper."""

SIXTEEN = {
    "dim": "none",
    "red": "bold",
    "green": "none",
    "yellow": "bold",
    **{shade: look for shades in (WARM, COOL) for (_, shade), look in zip(shades, _MARKS, strict=True)},
}
"""The same where a theme chooses the 16 colours that there are, and no two of them can be trusted with each other."""

_MARGIN = 4
"""Columns between two matrices."""
_WIDEST = 10_000
_GLUE = "\ue000"
"""A blank where nothing is folded, until it is written."""


def write(report: Report) -> str:
    """Plain text."""
    return recorded(report.document, color=False).export_text()


def recorded(block: Block, *, color: bool) -> Console:
    """A console that has printed `block`, and can export it."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        force_terminal=color,
        color_system="truecolor" if color else None,
        highlight=False,
    )
    console.print(renderable(block))
    return console


def renderable(block: Block) -> RenderableType:
    """`block` as something that Rich prints."""
    return _Legible(block)


class _Legible:
    """A block in styles as they can be read on a light screen and on a dark one."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with console.use_theme(Theme(STYLES if console.color_system in ("256", "truecolor") else SIXTEEN)):
            for part in _drawn(self._block, console, options):
                yield from [part] if isinstance(part, Segment) else console.render(part, options)


def _drawn(block: Block, console: Console, options: ConsoleOptions) -> RenderResult:
    match block:
        case Line():
            yield _text(block)
        case Table():
            kind = _matrix if block.matrix else _grid if block.folds else _rows
            yield from kind(block, console, options)
        case Beside():
            text = _beside(block.tables)
            if max(line.cell_len for line in text.split()) <= options.max_width:
                yield text
            else:
                yield from _drawn(Document(block.tables, apart=True), console, options)
        case Picture():
            yield from map(_text, block.draw(options.max_width, options.ascii_only))
        case Document():
            for index, part in enumerate(block.parts):
                if index and block.apart:
                    yield Segment.line()
                yield from _drawn(part, console, options)


def _rows(table: Table, console: Console, _: ConsoleOptions) -> RenderResult:
    """A table of thousands of rows, which Rich's own tables would take seconds for: nothing is folded or cut."""
    heads = [[(head, "dim" if index else "bold")] for index, head in enumerate(table.heads)]
    rows = [heads, *([cell.pieces for cell in row] for row in table.rows)]
    texts = [["".join(text for text, _ in cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    last = len(widths) - 1
    for row, plain in zip(rows, texts, strict=True):
        for index, (cell, text, side, width) in enumerate(zip(row, plain, table.align, widths, strict=True)):
            blank = " " * (width - cell_len(text))
            yield Segment(blank if side == ">" else "")
            for piece, style in cell:
                yield Segment(piece, console.get_style(style) if style else None)
            yield Segment(blank if side == "<" and index < last else "")
            yield Segment("\n" if index == last else " " * table.gap)


def _grid(table: Table, console: Console, options: ConsoleOptions) -> RenderResult:
    """A table whose cells are folded between numbers, not within an interval; where a word would be cut, in parts.

    Each part has the first column and as many of the others as fit.
    """
    columns, wide = list(range(1, len(table.heads))), options.update(width=_WIDEST)
    while True:
        fitting, part = len(columns), _part(table, [0, *columns])
        while fitting > 1 and Measurement.get(console, wide, part).minimum > options.max_width:
            fitting -= 1
            part = _part(table, [0, *columns[:fitting]])
        for text, style, control in console.render(part, options):
            yield Segment(text.replace(_GLUE, " "), style, control)
        columns = columns[fitting:]
        if not columns:
            break


def _part(table: Table, columns: Sequence[int]) -> RichTable:
    padding = (0, table.gap, 0, 0)
    drawn = RichTable(box=None, padding=padding, pad_edge=False, header_style="dim", show_header=any(table.heads))
    for index in columns:
        head = Text(table.heads[index], "" if index else "not dim bold")
        drawn.add_column(head, justify=_SIDES[table.align[index]], overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_text(row[index], _GLUE) for index in columns))
    return drawn


def _beside(tables: Iterable[Table]) -> Text:
    """Line by line, as many matrices as there are; a title is cut where it would not fit."""
    sides: list[Text] = []
    for table in tables:
        labels = not sides
        lines = [Text(f"{'   ' if labels else ' '}{_short(table.title)}", "bold"), *_lines(table, labels=labels)]
        if not sides:
            sides = lines
            continue
        wide = max(line.cell_len for line in sides) + _MARGIN
        for line, other in zip(sides, lines, strict=True):
            line.pad_right(wide - line.cell_len)
            line.append_text(other)
    return Text("\n").join(sides)


def _short(title: str) -> str:
    return title if len(title) <= WIDTH // 2 - 6 else title[: WIDTH // 2 - 9] + "..."


def _matrix(table: Table, _: Console, options: ConsoleOptions) -> RenderResult:
    """Cells of one width; where the screen is narrower than that, each column as wide as its cells."""
    for tight in (False, True):
        lines = list(_lines(table, tight=tight))
        if max(line.cell_len for line in lines) <= options.max_width:
            break
    yield Text("\n").join([Text(table.title, "bold"), *lines])


def _lines(table: Table, *, labels: bool = True, tight: bool = False) -> Iterator[Text]:
    """The heads and the rows of a matrix; its last column is as wide as the head's word and a blank."""
    columns = list(zip(table.heads, *([cell.text for cell in row] for row in table.rows), strict=True))
    widths = [1 + max(map(len, column)) if tight else table.matrix for column in columns[1:-1]]
    ending = 1 + max(map(len, columns[-1]))
    heads = "".join(head.rjust(width) for head, width in zip(table.heads[1:-1], widths, strict=True))
    yield Text(f"{'  ' if labels else ''}{heads}{table.heads[-1].rjust(ending)}", "dim")
    for row in table.rows:
        line = Text.assemble(_text(row[0]), " ") if labels else Text()
        for cell, width in zip(row[1:-1], widths, strict=True):
            line.append(" " * (width - len(cell.text))).append_text(_text(cell))
        yield line.append(row[-1].text.rjust(ending))


def _text(line: Line, glue: str = " ") -> Text:
    pieces = [(unbroken(shown(text, "\n"), glue), style) for text, style in line.pieces]
    # What folds says nothing of it: Rich folds by itself, unless it is asked to leave long lines whole.
    fold, cut = (None, None) if line.folds else ("ignore", True)
    if len(pieces) == 1:
        return Text(*pieces[0], overflow=fold, no_wrap=cut)
    return Text.assemble(*pieces, overflow=fold, no_wrap=cut)
