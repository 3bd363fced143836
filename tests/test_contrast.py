"""Every style that a terminal shows can be read on its screen: ink on paper of 4.5 to 1 at least (WCAG 2.1, AA)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from rich.color import Color, ColorSystem
from rich.style import Style

import lorabench
from lorabench.report.blocks import COOL, WARM
from lorabench.report.writers.terminal import SIXTEEN, STYLES

LOOKS = {"bold", "dim", "bold underline", "not dim bold", "none", "reverse", "bold reverse", ""}
"""Styles without colours: a screen's own ink on its own paper."""

PALETTES = {
    "xterm": "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff "
    "ffffff",
    "Solarized": "073642 dc322f 859900 b58900 268bd2 d33682 2aa198 eee8d5 002b36 cb4b16 586e75 657b83 839496 6c71c4 "
    "93a1a1 fdf6e3",
    "macOS Terminal": "000000 990000 00a600 999900 0000b2 b200b2 00a6b2 bfbfbf 666666 e50000 00d900 e5e500 0000ff "
    "e500e5 00e5e5 e5e5e5",
    "Windows": "0c0c0c c50f1f 13a10e c19c00 0037da 881798 3a96dd cccccc 767676 e74856 16c60c f9f1a5 3b78ff b4009e "
    "61d6d6 f2f2f2",
    "GNOME": "171421 c01c28 26a269 a2734c 12488b a347ba 2aa1b3 d0cfcc 5e5c64 f66151 33da7a e9ad0c 2a7bde c061cb 33c7de "
    "ffffff",
}
"""The 16 colours of terminals, which light and dark themes share; what differs is the screen's own ink and paper."""


def luminance(rgb: tuple[int, ...]) -> float:
    parts = [part / 255 for part in rgb]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(ink: tuple[int, ...], paper: tuple[int, ...]) -> float:
    dark, light = sorted((luminance(ink), luminance(paper)))
    return (light + 0.05) / (dark + 0.05)


def shown(color: Color | None, system: ColorSystem, palette: str) -> tuple[int, ...] | None:
    """What a terminal makes of a colour; None is its own ink or paper, of which nobody knows what it is."""
    if color is None:
        return None
    reduced = color.downgrade(system)
    if reduced.number is not None and reduced.number < 16:
        return tuple(bytes.fromhex(PALETTES[palette].split()[reduced.number]))
    return tuple(reduced.get_truecolor())


def used() -> set[str]:
    """Every text in the code that is a style with a colour, and the shades of confusions."""
    names = set(STYLES) | {style for _, style in (*WARM, *COOL)}
    for path in Path(lorabench.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"line", "Piece", "Text"}
            ):
                for argument in node.args[1:]:
                    names |= {
                        c.value for c in ast.walk(argument) if isinstance(c, ast.Constant) and isinstance(c.value, str)
                    }
    return {
        name
        for name in names
        if re.fullmatch(r"(bold |dim )?(red|green|yellow|blue|cyan|magenta|white|#\w+).*|dim", name)
    }


@pytest.mark.parametrize("palette", PALETTES)
def test_every_style_has_ink_and_paper_that_differ(palette: str) -> None:
    poor: dict[tuple[str, str], float] = {}
    for name in used():
        for system, theme in (
            (ColorSystem.TRUECOLOR, STYLES),
            (ColorSystem.EIGHT_BIT, STYLES),
            (ColorSystem.STANDARD, SIXTEEN),
        ):
            style = Style.parse(theme.get(name, name))
            ink, paper = (shown(color, system, palette) for color in (style.color, style.bgcolor))
            if (ink is None) != (paper is None) or style.dim:
                poor[name, system.name] = 0
            elif ink and paper and contrast(ink, paper) < 4.5:
                poor[name, system.name] = contrast(ink, paper)
    assert not poor


def test_the_measure_is_the_usual_one() -> None:
    assert contrast((255, 255, 255), (0, 0, 0)) == pytest.approx(21)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)
