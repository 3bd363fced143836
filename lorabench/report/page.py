"""The report as one HTML file: no script, nothing from elsewhere; readable on a phone, in the dark and on paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorabench import __version__
from lorabench.report.document import Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.color import Color
    from rich.style import Style

    from lorabench.report.document import Block

TEMPLATE = Path(__file__).with_name("page.html")


def write(blocks: Sequence[Block], figures: Sequence[tuple[str, str]] = ()) -> str:
    """The page.

    Args:
        blocks: in their order; a heading that comes first is the page's.
        figures: titles and SVG documents, which go into the page as they are.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    match blocks:
        case [Line(kind="heading") as title, *rest]:
            pass
        case _:
            title, rest = None, blocks
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        blocks=[(type(block).__name__, block) for block in rest],
        figures=[(name, Markup(svg[svg.index("<svg") :])) for name, svg in figures],
        ink=_ink,
        version=__version__,
    )


def _ink(style: Style) -> dict[str, str]:
    """A style as attributes: the page gives the classes their colours, for a light and a dark screen."""
    classes = [name for name, wanted in (("dim", style.dim), ("bold", style.bold)) if wanted]
    inks: list[str] = []
    if style.color and style.color.triplet is None and not style.bgcolor:
        classes.append(style.color.name)
    elif style.color:
        inks.append(f"color:{_hex(style.color)}")
    if style.bgcolor:
        inks.append(f"background:{_hex(style.bgcolor)}")
    return {name: text for name, text in (("class", " ".join(classes)), ("style", ";".join(inks))) if text}


def _hex(color: Color) -> str:
    return color.name if color.name in ("black", "white") else color.get_truecolor().hex
