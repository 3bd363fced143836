"""Labels beside points, moved so that none hides another, a point, or runs off the axes. No chance is involved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

    Point = tuple[float, float]

SIZE = 6.8
"""Points of the labels' type."""

_CROSSING = 8.0
"""Points that a label moves away rather than cross a line."""

_PLACES = [
    (away, math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8))
    for away in (6 * 1.2**step for step in range(21))
    for turn in (0, 8, 4, 12, 2, 14, 6, 10, 1, 15, 7, 9, 3, 13, 5, 11)
]
"""Points away from what is named, and the direction: the nearest first, and of these right, left, above, below."""


def place(
    axes: Axes, points: Sequence[Point], texts: Sequence[str], avoid: Sequence[Sequence[Point]] = ()
) -> list[Annotation]:
    """Write `texts[i]` beside `points[i]`, in the axes' units; the figure's layout is final afterwards.

    Labels hide neither each other nor a point; they and the ties to their points cross the lines `avoid` and each other
    only where all other places are far. Those in the densest company choose first.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # so that places in pixels stay what they are
    figure.set_layout_engine("none")
    renderer = FigureCanvasAgg(figure).get_renderer()
    pixel = axes.figure.dpi / 72
    spots, lines = _pixels(axes, points), [Path(_pixels(axes, line)) for line in avoid]
    frame = axes.get_window_extent().padded(-2 * pixel)
    taken = [Bbox.from_bounds(x, y, 0, 0).padded(3.5 * pixel) for x, y in spots]
    company = [sum(math.dist(spot, other) < 60 * pixel for other in spots) for spot in spots]
    labels: dict[int, Annotation] = {}
    for index in sorted(range(len(spots)), key=lambda index: (-company[index], index)):
        label = labels[index] = axes.annotate(
            texts[index], points[index], (0, 0), textcoords="offset points", fontsize=SIZE, va="bottom"
        )
        label.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
        label.set_in_layout(False)
        (x, y), others = spots[index], [*taken[:index], *taken[index + 1 :]]
        wide, high = label.get_window_extent(renderer).size
        best, least, tie = Bbox.from_bounds(x, y, wide, high), math.inf, None
        for away, right, up in _PLACES:
            box = best.from_bounds(
                x + right * (away * pixel + wide / 2) - wide / 2,
                y + up * (away * pixel + high / 2) - high / 2,
                wide,
                high,
            )
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if away >= least or not inside or box.count_overlaps(others):
                continue
            thread = Path(np.array([(x, y), np.clip((x, y), box.min, box.max)]))
            crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
            crossed += 2 * (
                sum(map(thread.intersects_bbox, others)) + sum(map(thread.intersects_path, lines[len(avoid) :]))
            )
            if (cost := away + _CROSSING * crossed) < least:
                best, least, tie = box, cost, thread if away > 10 else None
        label.set_position(((best.x0 - x) / pixel, (best.y0 - y) / pixel))
        taken.append(best.padded(pixel))
        if tie:
            lines.append(tie)
            ends = axes.transData.inverted().transform(tie.vertices)
            axes.plot(ends[:, 0], ends[:, 1], color="#9a9a9a", linewidth=0.5, zorder=1)
    return [labels[index] for index in range(len(spots))]


def _pixels(axes: Axes, points: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(list(points))]
