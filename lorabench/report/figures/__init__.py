"""Figures from run records: `report --figures DIR` writes them, and a page can take them inline.

    figures.write(material, Path("out"))        # PNG and SVG of all that can be drawn
    figures.svgs(material)                      # [("Test accuracy against the rank k", "<svg ...>"), ...]

    material    what they are drawn from, gathered from the runs folder and MNIST
    style       their look                          labels   names that do not overlap
    planes      ranks, parameters and forgetting    confusions, samples, spectra, curves: one figure each

matplotlib is imported by the first figure that is drawn, not by this room. Only its Figure objects are used, never
pyplot, and none of its global settings stays changed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import quoteattr

from lorabench import files
from lorabench.report.figures.material import Material, Missing, Pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 160
"""Characters of one text in a figure."""

__all__ = ["Material", "Missing", "Outcome", "Pictures", "draw", "svgs", "write"]


class Entry(NamedTuple):
    """A figure that there can be: the name of its files, what it shows, and who draws it or raises `Missing`."""

    name: str
    title: str
    draw: Callable[[Material], Figure]


@dataclass(frozen=True)
class Outcome:
    """What became of a figure: the `files` written, or what is `missing` for it."""

    name: str
    title: str
    files: tuple[Path, ...] = ()
    missing: str | None = None


def _entries() -> list[Entry]:
    """All figures in their order. A new one is a file with `draw` and a line here."""
    from lorabench.report.figures import confusions, curves, planes, samples, spectra

    return [
        Entry("confusions", "Confusion matrices", confusions.draw),
        Entry("samples", "Sample images", samples.draw),
        Entry("rank", "Accuracy against k", planes.ranks),
        Entry("parameters", "Accuracy against trained parameters", planes.parameters),
        Entry("forgetting", "Learning against forgetting", planes.forgetting),
        Entry("spectra", "Spectrum of the weights' change", spectra.draw),
        Entry("curves", "Training curves", curves.draw),
    ]


def draw(name: str, material: Material) -> Figure:
    """One figure, for whoever wants to go on with it.

    Raises:
        Missing: it cannot be drawn from `material`.
        KeyError: there is none of this name.
    """
    with _studio() as entries:
        return _draw(next(entry for entry in entries if entry.name == name), material)


def svgs(material: Material) -> list[tuple[str, str]]:
    """Title and `<svg>` element of each figure that can be drawn; all of them can stand in one page."""
    pictures: list[tuple[str, str]] = []
    with _studio() as entries:
        for entry in entries:
            with contextlib.suppress(Missing):
                pictures.append((entry.title, _svg(_draw(entry, material), entry.name, entry.title)))
    return pictures


def write(material: Material, folder: Path) -> list[Outcome]:
    """Write each figure that can be drawn into `folder` as PNG (300 dots per inch) and as SVG.

    Raises:
        InputError: the folder cannot be written.
        RunFailedError: the disk is full.
    """
    outcomes: list[Outcome] = []
    with _studio() as entries:
        for entry in entries:
            try:
                figure = _draw(entry, material)
            except Missing as missing:
                outcomes.append(Outcome(entry.name, entry.title, missing=str(missing)))
                continue
            png = io.BytesIO()
            figure.savefig(png, format="png", metadata={"Software": None})
            contents = {".png": png.getvalue(), ".svg": _svg(figure, entry.name, entry.title).encode()}
            paths = tuple(folder / f"{entry.name}{suffix}" for suffix in contents)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise files.failure(folder, error) from error
            for path, content in zip(paths, contents.values(), strict=True):
                files.write(path, content)
            outcomes.append(Outcome(entry.name, entry.title, paths))
    return outcomes


def _draw(entry: Entry, material: Material) -> Figure:
    """A figure, its words cut where they are longer than any of a study: each character is an outline in an SVG."""
    from matplotlib.text import Text

    figure = entry.draw(material)
    for text in figure.findobj(Text):
        if len(words := text.get_text()) > LONGEST:
            text.set_text(f"{words[:LONGEST]}…")
    return figure


def _svg(figure: Figure, name: str, title: str) -> str:
    """A figure's `<svg>` element, its text drawn as outlines; the same figure gives the same bytes.

    Every id in it begins with `name`, so that no other figure's markers or clips are taken for its own, and its style
    reaches nothing outside it.
    """
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    text = re.sub(r"\A.*?(?=<svg\b)", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'((?:xlink:)?href=")#', rf"\1#{name}-", text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">#{name} *{{')
    return text.replace("<svg ", f'<svg id={quoteattr(name)} role="img" aria-label={quoteattr(title)} ', 1)


@contextlib.contextmanager
def _studio() -> Generator[list[Entry]]:
    """The figures, for as long as matplotlib has our settings.

    On its first use matplotlib says on stderr that it builds a font cache, or where: that is nobody's concern here.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        from lorabench.report.figures.style import styled

        with styled():
            yield _entries()
    finally:
        log.setLevel(level)
