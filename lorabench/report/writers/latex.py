r"""The report as LaTeX to `\input` into a paper: a `tabular` with the rules of booktabs for each table.

Tables stand on their own, without floats, captions or packages beside booktabs: a paper has its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lorabench.report.blocks import Beside, Line, Picture, Table, leaves
from lorabench.report.writers import Report

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "--": "-{}-",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}
_MARKS = re.compile("|".join(map(re.escape, _SPECIAL)))
_MINUS = re.compile(r"(?<![\w.-])-(?=\d)")

_HEAD = r"% A lorabench report. Needs \usepackage{booktabs}, and for characters beyond ASCII XeLaTeX or LuaLaTeX."


def write(report: Report) -> str:
    """The blocks in their order; the first heading is a section, the others are its parts."""
    parts: list[str] = []
    section = "section"
    for block in leaves(report.document):
        if isinstance(block, Line):
            parts.append(_line(block, section))
            section = "subsection" if block.kind == "heading" else section
        elif isinstance(block, Beside):
            parts += map(_table, block.tables)
        elif isinstance(block, Picture):
            lines = [escape(text).replace(" ", "~") for text in block.text.splitlines()]
            parts.append(f"{{\\noindent\\ttfamily {_lines(lines)}\\par}}")
        else:
            parts.append(_table(block))
    return "\n\n".join([_HEAD, *parts]) + "\n"


def escape(text: str) -> str:
    """`text` so that LaTeX prints it as it is, with a true minus before a number; several blanks stay a gap."""
    marked = _MARKS.sub(lambda found: _SPECIAL[found[0]], _MINUS.sub("\0", text))
    return re.sub("  +", r"\\quad ", marked.replace("\0", "$-$"))


def _line(line: Line, section: str) -> str:
    if line.kind == "heading":
        title, *rest = (escape(piece.text.strip()) for piece in line.pieces)
        return "\n".join([f"\\{section}*{{{title}}}", *rest])
    size, after = ("\\small", "\\medskip") if line.kind == "note" else ("", "")
    return f"{{\\noindent{size} {_lines([escape(text) for text in line.text.splitlines()])}\\par}}{after}"


def _table(table: Table) -> str:
    sides = "".join("r" if side == ">" else "l" for side in table.align)
    heads = [f"\\textbf{{{escape(table.heads[0])}}}", *map(escape, table.heads[1:])]
    return "\n".join(
        [
            *([f"\\noindent\\textbf{{{escape(table.title)}}}\\par\\nobreak\\smallskip"] if table.title else []),
            f"\\noindent\\begin{{tabular}}{{@{{}}{sides}@{{}}}}",
            "\\toprule",
            *([_row(heads), "\\midrule"] if any(table.heads) else []),
            *(_row([_cell(cell, side) for cell, side in zip(row, sides, strict=True)]) for row in table.rows),
            "\\bottomrule",
            "\\end{tabular}\\par\\medskip",
        ]
    )


def _row(cells: Sequence[str]) -> str:
    return f"{_guarded(' & '.join(cells))} \\\\"


def _cell(cell: Line, side: str) -> str:
    text = cell.text.lstrip(" ")
    indent = "\\quad " if text != cell.text else ""
    lines = [escape(part) for part in text.splitlines()]
    if len(lines) < 2:
        return indent + "".join(lines)
    return f"{indent}\\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}{_lines(lines)}\\end{{tabular}}"


def _lines(lines: Sequence[str]) -> str:
    return " \\\\ ".join(map(_guarded, lines))


def _guarded(text: str) -> str:
    r"""A `*` or `[` that follows `\\` belongs to it, unless it stands in braces."""
    return f"{{{text[0]}}}{text[1:]}" if text[:1] in ("*", "[") else text
