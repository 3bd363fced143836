"""Digits as block characters: originals above their mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.text import Text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console, ConsoleOptions, RenderResult

    Images = npt.NDArray[np.uint8]

SIZE = 18
"""Columns of one digit; it has half as many lines, since a character is twice as high as wide."""

GAP = 2
_BLOCKS = " ▀▄█"
_DENSITY = " .:-=+*#%@"
_INK = 100
"""The brightness, of 255, from which half a block is filled."""


@dataclass(frozen=True)
class Digits:
    """A renderable: captions, each with images (n, 28, 28) of uint8 below it, as many as fit.

    Half blocks, which show twice as many lines; where the output takes no Unicode, characters by density.
    """

    rows: tuple[tuple[str, Images], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the picture, line by line."""
        fit = max(1, (options.max_width + GAP) // (SIZE + GAP))
        for caption, images in self.rows:
            yield Text(caption, "bold")
            pictures = [draw(image, ascii_only=options.ascii_only) for image in images[:fit]]
            for parts in zip(*pictures, strict=True):
                yield Segment((" " * GAP).join(parts).rstrip())
                yield Segment.line()


def preview(originals: Images, changed: Images, called: str = "mirrored") -> Digits:
    """`originals` (n, 28, 28) above the same images as a shift has `changed` them: four of each at 80 columns."""
    return Digits((("original", originals), (called, changed)))


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
