"""The report in GitHub's Markdown, for an issue, a README or a notebook."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lorabench.report.blocks import Beside, Line, Picture, Table, leaves
from lorabench.report.writers import Report

_MARKS = re.compile(r"[\\`*_<&|~$]|\](?=[(\[:])")
_OPENERS = re.compile(r"^([#+=>-]|\d+(?=[.)](?:\s|$)))", re.MULTILINE)
"""What makes a list, a heading, a quotation or a rule of a line that begins with it."""


def write(report: Report) -> str:
    """The blocks in their order; the first heading is the document's."""
    parts: list[str] = []
    level = "#"
    for block in leaves(report.document):
        if isinstance(block, Line):
            parts.append(_line(block, level))
            level = "##" if block.kind == "heading" else level
        elif isinstance(block, Beside):
            parts += map(_table, block.tables)
        elif isinstance(block, Picture):
            text = block.text
            parts.append(f"{_fence(text)}\n{text}\n{_fence(text)}")
        else:
            parts.append(_table(block))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` so that Markdown shows it as it is; several blanks stay a gap."""
    return re.sub("  +", "&nbsp; ", _MARKS.sub(r"\\\g<0>", text))


def _line(line: Line, level: str) -> str:
    if line.kind == "heading":
        title, *rest = (escape(piece.text.strip()) for piece in line.pieces)
        return f"{level} {' '.join([title, *(f'({text})' for text in rest)])}"
    return _OPENERS.sub(lambda found: _opened(found[0]), escape(line.text)).replace("\n", "\\\n")


def _opened(opener: str) -> str:
    return f"{opener}\\" if opener.isdecimal() else f"\\{opener}"


def _table(table: Table) -> str:
    heads = _row([escape(head) for head in table.heads])
    rule = _row(["---:" if side == ">" else ":---" for side in table.align])
    rows = [_row([_cell(cell) for cell in row]) for row in table.rows]
    title = [f"**{escape(table.title)}**", ""] if table.title else []
    return "\n".join([*title, heads, rule, *rows])


def _cell(cell: Line) -> str:
    text = cell.text.lstrip(" ")
    indent = "&nbsp;" * (len(cell.text) - len(text))
    return indent + escape(text).replace("\n", "<br>")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _fence(text: str) -> str:
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
