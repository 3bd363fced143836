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
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import SubFigure
    from matplotlib.text import Annotation

    Point = tuple[float, float]

SIZE = 6.8
"""Points of the labels' type."""

_NEAR, _FAR = 6.0, 240.0
"""Points between a label and what it names, at the least and at the most."""

_TIED = 11.0
"""From this distance on a thin line ties a label to its point."""

_CROSSING = 8.0
"""Points that a label moves away rather than cross a line."""

_LEAD = 20.0
"""Points between the axes and the labels beside them."""

_TURNS = (0, 8, 4, 12, 2, 14, 6, 10, 1, 15, 7, 9, 3, 13, 5, 11)
"""Sixteenths of a circle, in the order of preference."""

_POINT = 3.5
"""Half the side of the square around a point, in points of type, that labels keep out of."""


def place(
    axes: Axes,
    points: Sequence[Point],
    texts: Sequence[str],
    avoid: Sequence[Sequence[Point]] = (),
) -> list[Annotation]:
    """Write `texts[i]` beside `points[i]`, in the axes' units; the figure's layout is final afterwards.

    Labels hide neither each other nor a point, and cross the lines `avoid` only where all other places are far. Those
    in the densest company choose first. A place is the cheaper the nearer it is, the more it leads out of the crowd,
    and the less it and its tie cross.
    """
    renderer = settle(axes.get_figure(root=True))
    pixel = axes.figure.dpi / 72
    spots = _pixels(axes, points)
    lines = [Path(_pixels(axes, line)) for line in avoid]
    squares = [Bbox.from_extents(x, y, x, y).padded(_POINT * pixel) for x, y in spots]
    company = [sum(math.dist(spot, other) < 60 * pixel for other in spots) for spot in spots]
    frame = axes.get_window_extent().padded(-2 * pixel)
    taken, ties = list[Bbox](), list[Path]()
    made: dict[int, Annotation] = {}
    for index in sorted(range(len(spots)), key=lambda i: (-company[i], i)):
        (x, y), others = spots[index], [*taken, *squares[:index], *squares[index + 1 :]]
        label = axes.annotate(texts[index], points[index], (0, 0), textcoords="offset points", fontsize=SIZE)
        label.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
        label.set_in_layout(False)
        size = label.get_window_extent(renderer)
        outward = _outward(spots, index, 60 * pixel)
        best, least, tie = Bbox.from_bounds(x, y, size.width, size.height), math.inf, None
        for box, away, (dx, dy) in _candidates((x, y), size, pixel):
            if away >= least:
                break
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            cost = away * (1.25 - 0.25 * (dx * outward[0] + dy * outward[1]))
            if cost >= least or not inside or box.count_overlaps(others):
                continue
            near = (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))
            thread = Path([(x, y), near]) if away >= _TIED else None
            crossed = sum(line.intersects_bbox(box, filled=False) for line in [*lines, *ties, *ties])
            if thread:
                crossed += 2 * sum(map(thread.intersects_bbox, others)) + sum(map(thread.intersects_path, ties))
            if (cost := cost + _CROSSING * crossed) < least:
                best, least, tie = box, cost, thread
        label.set_position(((best.x0 - x) / pixel, (best.y0 - y) / pixel))
        label.set_verticalalignment("bottom")
        taken.append(best.padded(pixel))
        if tie:
            ties.append(tie)
            ends = axes.transData.inverted().transform(tie.vertices)
            axes.plot(ends[:, 0], ends[:, 1], color="#9a9a9a", linewidth=0.5, zorder=1)
        made[index] = label
    return [made[index] for index in range(len(spots))]


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


def _candidates(spot: Point, size: Bbox, pixel: float) -> Iterator[tuple[Bbox, float, Point]]:
    """Boxes as large as `size` around `spot`, the nearest first, each with its distance and direction."""
    (x, y), wide, high = spot, size.width, size.height
    away = _NEAR
    while away < _FAR:
        for turn in _TURNS:
            dx, dy = math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)
            left = x + dx * (away * pixel + wide / 2) - wide / 2
            bottom = y + dy * (away * pixel + high / 2) - high / 2
            yield Bbox.from_bounds(left, bottom, wide, high), away, (dx, dy)
        away *= 1.2


def _outward(spots: Sequence[Point], index: int, reach: float) -> Point:
    """The direction, of length 1, from the middle of the points within `reach` to point `index`; 0 if there is none."""
    near = [other for other in spots if math.dist(other, spots[index]) < reach]
    dx, dy = (
        value - sum(values) / len(near) for value, values in zip(spots[index], zip(*near, strict=True), strict=True)
    )
    length = math.hypot(dx, dy)
    return (dx / length, dy / length) if length > 1 else (0.0, 0.0)


def _pixels(axes: Axes, points: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(list(points))]
