"""The report as one HTML file: no script, nothing from elsewhere; readable on a phone, in the dark and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorabench import __version__
from lorabench.report.blocks import WHOLE, Line, leaves
from lorabench.report.writers import Report

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = Path(__file__).with_name("page.html")


def write(report: Report) -> str:
    """The page; a heading that comes first is its title, the story comes next, and figures go into it as they are."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    blocks = list(leaves(report.document))
    first = blocks[0] if blocks else None
    title = first if isinstance(first, Line) and first.kind == "heading" else None
    if story := report.story():
        told = [*([title] if title else []), *leaves(story)]
        blocks = told + [block for block in blocks if block not in told]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        blocks=[(type(block).__name__, block) for block in blocks[title is not None :]],
        figures=[(name, Markup(svg[svg.index("<svg") :])) for name, svg in report.figures()],
        ink=_ink,
        unbroken=_unbroken,
        version=__version__,
    )


def _unbroken(text: str) -> Markup:
    """`text`, of which no line ends within an interval."""
    from markupsafe import Markup, escape

    parts = WHOLE.split(text)
    return Markup("").join(
        Markup('<span class="whole">{}</span>').format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def _ink(style: str) -> dict[str, str]:
    """A style as attributes: the page gives named ones their looks, for a light and a dark screen."""
    ink, _, paper = style.partition(" on ")
    if paper or ink.startswith("#"):
        return {"style": f"color:{ink}" + (f";background:{paper}" if paper else "")}
    return {"class": ink} if ink else {}
