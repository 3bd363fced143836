"""Digits as block characters: originals above their mirror images.

Half blocks, which show twice as many lines; where the output takes no Unicode, characters by density.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorabench.report.blocks import Line, Picture, line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Images = npt.NDArray[np.uint8]

SIZE = 18
"""Columns of one digit; it has half as many lines, since a character is twice as high as wide."""

GAP = 2
_BLOCKS = " ▀▄█"
_DENSITY = " .:-=+*#%@"
_INK = 100
"""The brightness, of 255, from which half a block is filled."""


def preview(originals: Images, changed: Images, called: str = "mirrored") -> Picture:
    """`originals` (n, 28, 28) above the same images as a shift has `changed` them: four of each at 80 columns."""

    def drawn(columns: int, ascii_only: bool) -> list[Line]:
        lines: list[Line] = []
        for caption, images in (("original", originals), (called, changed)):
            lines += [line(caption, "bold"), *beside([draw(image, ascii_only=ascii_only) for image in images], columns)]
        return lines

    return Picture(drawn, f"Digits of MNIST, and below them the same {called}.")


def beside(tiles: Sequence[Sequence[str]], columns: int) -> list[Line]:
    """The first of `tiles`, each some lines of `SIZE` characters at most, beside each other: as many as fit."""
    rows = zip(*tiles[: fitting(columns)], strict=True)
    return [line((" " * GAP).join(part.ljust(SIZE) for part in row).rstrip()) for row in rows]


def fitting(columns: int) -> int:
    """How many digits fit beside each other, one at least."""
    return max(1, (columns + GAP) // (SIZE + GAP))


def draw(image: Images, *, ascii_only: bool) -> list[str]:
    """The lines of one image (28, 28), each of `SIZE` characters: half blocks, or characters by density."""
    import numpy as np

    weights = _shrink(len(image), SIZE)
    small = weights @ image @ weights.T
    top, bottom = small[::2], small[1::2]
    if ascii_only:
        brightness = (top + bottom) / 2
        levels = np.minimum(brightness / 20, len(_DENSITY) - 1).astype(int)
        return ["".join(_DENSITY[level] for level in line) for line in levels]
    filled = (top > _INK) + 2 * (bottom > _INK)
    return ["".join(_BLOCKS[cell] for cell in line) for line in filled]


def _shrink(old: int, new: int) -> npt.NDArray[np.float64]:
    """Weights (new, old) that average `old` pixels over `new` stretches of equal length."""
    import numpy as np

    edges = np.linspace(0, old, new + 1)
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * new / old
