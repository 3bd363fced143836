"""Labels beside points, moved so that none hides another, a point, or runs off the axes. No chance is involved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    in the densest company choose first.
    """
    renderer = settle(axes.get_figure(root=True))
    pixel = axes.figure.dpi / 72
    spots = _pixels(axes, points)
    scene = _Scene(
        inside=axes.get_window_extent().padded(-2 * pixel),
        spots=spots,
        points=[_around(spot, _POINT * pixel) for spot in spots],
        lines=[Path(_pixels(axes, line)) for line in avoid],
        labels=[],
        ties=[],
    )
    made: dict[int, Annotation] = {}
    for index in sorted(range(len(spots)), key=lambda i: (-_company(spots, i, 60 * pixel), i)):
        spot = spots[index]
        label = axes.annotate(texts[index], points[index], (0, 0), textcoords="offset points", fontsize=SIZE)
        label.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
        label.set_in_layout(False)
        size = label.get_window_extent(renderer)
        box, away = _best(scene, index, (size.width, size.height), pixel)
        label.set_position(((box.x0 - spot[0]) / pixel, (box.y0 - spot[1]) / pixel))
        label.set_verticalalignment("bottom")
        scene.labels.append(box.padded(pixel))
        if away >= _TIED:
            tie = _tie(spot, box)
            scene.ties.append(tie)
            ends = axes.transData.inverted().transform(tie.vertices)
            axes.plot(ends[:, 0], ends[:, 1], color="#9a9a9a", linewidth=0.5, zorder=1)
        made[index] = label
    return [made[index] for index in range(len(spots))]


@dataclass(frozen=True)
class _Scene:
    """What is on the axes, in pixels."""

    inside: Bbox
    spots: list[Point]
    points: list[Bbox]
    lines: list[Path]
    labels: list[Bbox]
    ties: list[Path]

    def free(self, box: Bbox) -> bool:
        """Whether `box` lies inside and on no label."""
        frame = self.inside
        within = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        return within and not box.count_overlaps(self.labels)


def _best(scene: _Scene, index: int, size: Point, pixel: float) -> tuple[Bbox, float]:
    """The cheapest free box for the label of point `index`, and its distance; beside the point if none is free.

    A place is the cheaper the nearer it is, the more it leads out of the crowd, and the less it crosses.
    """
    spot = scene.spots[index]
    others = [box for i, box in enumerate(scene.points) if i != index]
    outward = _outward(scene.spots, index, 60 * pixel)
    best, least = (Bbox.from_bounds(*spot, *size), 0.0), math.inf
    for box, away, (dx, dy) in _candidates(spot, size, pixel):
        if away >= least:
            break
        cost = away * (1.25 - 0.25 * (dx * outward[0] + dy * outward[1]))
        if cost >= least or not scene.free(box) or box.count_overlaps(others):
            continue
        cost += _CROSSING * sum(line.intersects_bbox(box, filled=False) for line in scene.lines)
        cost += 2 * _CROSSING * sum(tie.intersects_bbox(box) for tie in scene.ties)
        if away >= _TIED:
            tie = _tie(spot, box)
            cost += 3 * _CROSSING * sum(tie.intersects_bbox(other) for other in scene.labels)
            cost += _CROSSING * sum(tie.intersects_bbox(other) for other in others)
            cost += _CROSSING * sum(tie.intersects_path(other) for other in scene.ties)
        if cost < least:
            best, least = (box, away), cost
    return best


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

    Neighbours that would be too close are moved together, around the mean of what they want.
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    groups: list[tuple[float, int]] = []  # the sum of what its members want, and how many they are
    for index in order:
        total, count = wanted[index], 1
        while groups and _start(groups[-1], gap) + groups[-1][1] * gap > _start((total, count), gap):
            before, members = groups.pop()
            total, count = before + total, members + count
        groups.append((total, count))
    places = [_start(group, gap) + step * gap for group in groups for step in range(group[1])]
    for step in range(len(places)):
        places[step] = max(places[step], low if step == 0 else places[step - 1] + gap)
    for step in reversed(range(len(places))):
        places[step] = min(places[step], high if step == len(places) - 1 else places[step + 1] - gap)
    return [place for _, place in sorted(zip(order, places, strict=True))]


def _start(group: tuple[float, int], gap: float) -> float:
    total, count = group
    return total / count - gap * (count - 1) / 2


def _candidates(spot: Point, size: Point, pixel: float) -> Iterator[tuple[Bbox, float, Point]]:
    """Boxes around `spot`, the nearest first: right, left, above, below, then between; how far; whither."""
    (x, y), (wide, high) = spot, size
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
    x, y = spots[index]
    near = [other for other in spots if math.dist(other, (x, y)) < reach]
    dx, dy = x - sum(a for a, _ in near) / len(near), y - sum(b for _, b in near) / len(near)
    length = math.hypot(dx, dy)
    return (dx / length, dy / length) if length > 1 else (0.0, 0.0)


def _tie(spot: Point, box: Bbox) -> Path:
    """From the point to the nearest place on the label's edge."""
    near = (min(max(spot[0], box.x0), box.x1), min(max(spot[1], box.y0), box.y1))
    return Path([spot, near])


def _around(spot: Point, half: float) -> Bbox:
    return Bbox.from_extents(spot[0] - half, spot[1] - half, spot[0] + half, spot[1] + half)


def _pixels(axes: Axes, points: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(list(points))]


def _company(spots: Sequence[Point], index: int, reach: float) -> int:
    return sum(math.dist(spots[index], other) < reach for other in spots)
