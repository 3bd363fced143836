"""Labels beside points, moved so that none hides another, a point, or runs off the axes. No chance is involved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import SubFigure
    from matplotlib.text import Annotation

    Point = tuple[float, float]

SIZE = 6.8
"""Points of the labels' type."""

_CROSSING = 8.0
"""Points that a label moves away rather than cross a line."""

_LEAD = 20.0
"""Points between the axes and the labels beside them."""

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
    renderer = settle(axes.get_figure(root=True))
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


def settle(figure: Figure | SubFigure | None) -> RendererBase:
    """Lay the figure out for the last time, so that places in pixels stay what they are."""
    assert isinstance(figure, Figure)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return canvas.get_renderer()


def margin(texts: Sequence[str]) -> float:
    """Inches that `beside` needs for `texts` right of the axes."""
    return (_LEAD + 0.62 * SIZE * max(len(text) for text in texts) + 4) / 72


def beside(axes: Axes, ends: Sequence[Point], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Write `texts[i]` right of the axes, near the height of `ends[i]` and tied to it; after `settle`."""
    pixel = axes.figure.dpi / 72
    frame = axes.get_window_extent()
    heights = spread([y for _, y in _pixels(axes, ends)], 1.3 * SIZE * pixel, frame.y0, frame.y1)
    for end, height, text, colour in zip(ends, heights, texts, colours, strict=True):
        axes.annotate(
            text,
            end,
            (1 + _LEAD * pixel / frame.width, (height - frame.y0) / frame.height),
            textcoords="axes fraction",
            va="center",
            fontsize=SIZE,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def spread(wanted: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Places at least `gap` apart, in the order of `wanted`, as near to it as that and `low` to `high` allow.

    Less its steps of `gap` it is the least-squares fit of numbers that do not fall, which is cut to its room.
    """
    from scipy.optimize import isotonic_regression  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    fitted: Any = isotonic_regression(np.asarray(wanted, float)[order] - steps)
    places = np.empty(len(wanted))
    places[order] = np.minimum(np.maximum(fitted.x, low), high - steps[-1]) + steps
    return [float(place) for place in places]


def _pixels(axes: Axes, points: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(list(points))]
