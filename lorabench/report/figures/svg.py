"""A figure as SVG that can stand in a page beside others: the same figure gives the same bytes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_HEAD = re.compile(r"\A.*?(?=<svg\b)", re.DOTALL)


def svg(figure: Figure, name: str, title: str) -> str:
    """The `<svg>` element alone, its text drawn as outlines, `title` for those who cannot see it.

    Every id in it begins with `name`, so that no other figure's markers or clips are taken for its own, and its style
    reaches nothing outside it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA)
    text = _HEAD.sub("", buffer.getvalue())
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'((?:xlink:)?href=")#', rf"\1#{name}-", text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">#{name} *{{')
    return text.replace("<svg ", f'<svg id={quoteattr(name)} role="img" aria-label={quoteattr(title)} ', 1)
