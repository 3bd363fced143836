"""Every format of the report, from the same document, data and runs.

    form = chosen(None, Path("report.html"))      # "html"
    files.write(Path("report.html"), write(Report(document, data, runs), form).encode())

A format is a file of this folder with `write(report: Report) -> str`, and a line of `FORMATS`. Whoever adds to the
report adds to all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.errors import UsageError

if TYPE_CHECKING:
    from lorabench.report.blocks import Block
    from lorabench.runs import Run

FORMATS = {
    "rich": "terminal",
    "md": "markdown",
    "csv": "sheet",
    "json": "data",
    "tex": "latex",
    "html": "page",
    "svg": "screenshot",
}
"""The file that writes each format; `rich` is what a terminal shows, and `svg` its picture."""


def _no_figures() -> list[tuple[str, str]]:
    return []


def _no_story() -> Block | None:
    return None


@dataclass(frozen=True, repr=False)
class Report:
    """What there is to write. A notebook shows it as tables, `print` and a REPL as a terminal does.

    Attributes:
        document: what a terminal shows.
        data: the same for programs.
        runs: those that it tells of.
        figures: gives titles and SVG documents, for the formats that hold pictures.
        story: gives what a reader who has seen nothing else is told first, for a page that stands alone.
    """

    document: Block
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    runs: Sequence[Run] = ()
    figures: Callable[[], list[tuple[str, str]]] = _no_figures
    story: Callable[[], Block | None] = _no_story

    def __repr__(self) -> str:
        return write(self, "rich")

    def _repr_html_(self) -> str:
        """The page without its styles, which would be those of the whole notebook."""
        _, _, inner = write(self, "html").partition("<main>")
        return inner.partition("</main>")[0]


def chosen(name: str | None, out: Path | None, *, json: bool = False) -> str:
    """The format that was asked for, or else the one that the file's ending names, or else `rich`.

    Args:
        name: of `--format`.
        out: of `--out`; with it, `--json` says what stdout gets and not what the file gets.
        json: whether `--json` was given.

    Raises:
        UsageError: there is no such format, two are asked for, or a file's ending leaves it open.
    """
    if name and name not in FORMATS:
        raise UsageError(f"--format {name}: write one of {', '.join(FORMATS)}")
    if out is None:
        if json and name not in (None, "json"):
            raise UsageError(f"--json --format {name}: stdout takes one of them; --out FILE takes the other")
        return "json" if json else name or "rich"
    endings = {".txt" if known == "rich" else f".{known}": known for known in FORMATS}
    named = endings.get(out.suffix.lower())
    if name and named and name != named:
        raise UsageError(f"--format {name} --out {out}: the ending says {named}; change one of them")
    if form := name or named:
        return form
    raise UsageError(f"--out {out}: the name must end in {', '.join(endings)}, or --format say what to write")


def write(report: Report, form: str) -> str:
    """The report as text; `form` is a key of `FORMATS`."""
    return import_module(f"{__name__}.{FORMATS[form]}").write(report)
