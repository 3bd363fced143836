"""Every format of the report, from the same renderable and the same runs.

    form = chosen(None, Path("report.html"))      # "html"
    save(write(study_report(runs), runs, form), Path("report.html"))

Whoever adds to the report adds to all formats; a format has a file of its own, of which `write` knows.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal, get_args

from rich.console import Console

from lorabench.errors import InputError, UsageError
from lorabench.report.document import WIDTH, blocks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from lorabench.runs import Run

Format = Literal["rich", "md", "csv", "json", "tex", "html", "svg"]
"""`rich` is what a terminal shows, and `svg` its picture."""

_ENDINGS: dict[str, Format] = {".txt": "rich", **{f".{name}": name for name in get_args(Format)[1:]}}


def chosen(name: str | None, out: Path | None, *, json: bool = False) -> Format:
    """The format that was asked for, or else the one that the file's ending names, or else `rich`.

    Args:
        name: of `--format`.
        out: of `--out`; with it, `--json` says what stdout gets and not what the file gets.
        json: whether `--json` was given.

    Raises:
        UsageError: there is no such format, two are asked for, or a file's ending leaves it open.
    """
    form = next((known for known in get_args(Format) if known == name), None)
    if name and not form:
        raise UsageError(f"--format {name}: write one of {', '.join(get_args(Format))}")
    if out is None:
        if json and form not in (None, "json"):
            raise UsageError(f"--json --format {form}: stdout takes one of them; --out FILE takes the other")
        return "json" if json else form or "rich"
    named = _ENDINGS.get(out.suffix.lower())
    if form and named and form != named:
        raise UsageError(f"--format {form} --out {out}: the ending says {named}; change one of them")
    if found := form or named:
        return found
    raise UsageError(f"--out {out}: the name must end in {', '.join(_ENDINGS)}, or --format say what to write")


def write(report: RenderableType, runs: Sequence[Run], form: Format, *, figures: Sequence[tuple[str, str]] = ()) -> str:
    """The report as text.

    Args:
        report: what a terminal would show.
        runs: those that it tells of, a line of CSV for each.
        form: any but `json`, which is the report's data and not made from what it shows.
        figures: titles and SVG documents, for the formats that hold pictures.
    """
    from lorabench.report import latex, markdown, page, sheet

    match form:
        case "csv":
            return sheet.write(runs)
        case "md":
            return markdown.write(blocks(report))
        case "tex":
            return latex.write(blocks(report))
        case "html":
            return page.write(blocks(report), figures)
        case "svg":
            return _recorded(report, color=True).export_svg(title="lorabench report")
        case _:
            return _recorded(report, color=False).export_text()


def save(text: str, path: Path) -> None:
    """Write a file at once or not at all.

    Raises:
        InputError: it cannot be written.
    """
    from lorabench.runs import write_atomic

    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _recorded(report: RenderableType, *, color: bool) -> Console:
    console = Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        force_terminal=color,
        color_system="truecolor" if color else None,
        highlight=False,
    )
    console.print(report)
    return console
