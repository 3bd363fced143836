"""Settings as points in a plane: accuracy against k and against trained parameters, learning against forgetting.

Biderman et al., "LoRA learns less and forgets less", 2024, arXiv:2405.09673.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from lorabench.analysis.groups import RankSeries, base_accuracy, front, method_rows, rank_series
from lorabench.analysis.inference import Estimate, differences, over_seeds
from lorabench.analysis.quantities import HEADLINE, QUANTITIES, SETS
from lorabench.analysis.settings import collect
from lorabench.report.figures import Material, Missing
from lorabench.report.figures.style import (
    COLOURS,
    PALE,
    bar,
    base_line,
    canvas,
    caption,
    limits,
    logarithmic,
    marks,
    over,
    series_look,
    short,
)

Point = tuple[float, float]


def parameters(material: Material) -> Figure:
    """F-MNIST accuracy against trained parameters; of filled points nothing else is as accurate with as few of them.

    Raises:
        Missing: fewer than two ways to fine-tune were measured.
    """
    rows = [
        (row.label, row.values.get("params.trainable"), row.estimate(HEADLINE)) for row in method_rows(material.runs)
    ]
    known = [(label, size, mean) for label, size, mean in rows if size and isinstance(size, int) and mean]
    if len(known) < 2:
        raise Missing("two or more ways to fine-tune, measured on F-MNIST")
    sizes, estimates = [size for _, size, _ in known], [estimate for *_, estimate in known]
    spots = [(float(size), estimate.mean) for size, estimate in zip(sizes, estimates, strict=True)]
    best = front(spots)
    base = base_accuracy(material.runs).get("fmnist")
    figure = canvas(4.4, "Test accuracy on F-MNIST against trained parameters")
    axes = figure.subplots()
    left, right = min(sizes) / 1.8, max(sizes) * 1.8
    axes.set_xlim(left, right)
    logarithmic(axes.xaxis)
    axes.set_ylim(limits([*estimates, *([base] if base else [])], least=0.5))
    edge = sorted(spot for spot, on in zip(spots, best, strict=True) if on)
    # Steps: the value of a point on the front holds until the next one.
    steps = [edge[0]]
    for cost, value in [*edge[1:], (right, edge[-1][1])]:
        steps += [(cost, steps[-1][1]), (cost, value)]
    axes.plot([x for x, _ in steps], [y for _, y in steps], color=COLOURS[2], zorder=1.5)
    if base:
        base_line(axes, base)
    axes.set_xlabel("trained parameters")
    axes.set_ylabel("accuracy on F-MNIST, %")
    caption(figure, f"{over(e.n for e in estimates)}; line and filled points: the Pareto front of the means")
    named = [(label, _exact(size), estimate) for label, size, estimate in known]
    _points(axes, named, best, [steps, *([[(left, base.mean), (right, base.mean)]] if base else [])])
    return figure


def forgetting(material: Material) -> Figure:
    """What each way to fine-tune gains on the changed images, against what it loses on MNIST; both paired by seed.

    Raises:
        Missing: no fine-tuned run has changed test images and a base to compare with.
    """
    runs = collect(material.runs)
    rows: list[tuple[str, Estimate, Estimate]] = []
    for setting in runs.settings:
        gained = differences([(runs.base_of(run), run) for run in setting.runs]).get("fmnist.flipped")
        forgotten = over_seeds(QUANTITIES["forgotten"], map(QUANTITIES["forgotten"].of, runs.with_bases(setting).runs))
        if gained and isinstance(forgotten, Estimate):
            rows.append((setting.label, forgotten, gained.estimate))
    word = material.changed
    if not rows:
        raise Missing(f"a fine-tuned run measured on {word} images and on MNIST, before and after")
    figure = canvas(4.6, "Learning against forgetting")
    axes = figure.subplots()
    axes.axvline(0, color=PALE, linewidth=0.8)
    axes.set_xlim(limits([lost for _, lost, _ in rows], least=0.5, extra=[0]))
    axes.set_ylim(limits([gain for *_, gain in rows], least=2))
    axes.set_xlabel("forgotten: accuracy on MNIST, base − tuned, points")
    axes.set_ylabel(f"learned: accuracy on {word} images, tuned − base, points")
    alone = "; one way to fine-tune, so one point" if len(rows) == 1 else ""
    caption(figure, f"{over(gain.n for *_, gain in rows)}, paired by seed; best is up and to the left{alone}")
    _points(axes, rows, [True] * len(rows))
    return figure


def _points(
    axes: Axes,
    rows: Sequence[tuple[str, Estimate, Estimate]],
    filled: Sequence[bool],
    avoid: Sequence[Sequence[Point]] = (),
) -> None:
    """Draw each row's label, x and y with their intervals; the labels keep off the intervals and the lines `avoid`."""
    busy = list(avoid)
    for (_, x, y), full in zip(rows, filled, strict=True):
        axes.errorbar(
            [x.mean],
            [y.mean],
            bar(y),
            bar(x),
            fmt="D" if full else "o",
            color=COLOURS[2] if full else "#555555",
            ecolor="#8fa9bd" if full else "#555555",
            elinewidth=0.8,
            capsize=2,
            zorder=3,
            markerfacecolor=COLOURS[2] if full else "white",
        )
        if x.low is not None and x.high is not None:
            busy.append([(x.low, y.mean), (x.high, y.mean)])
        if y.low is not None and y.high is not None:
            busy.append([(x.mean, y.low), (x.mean, y.high)])
    place(axes, [(x.mean, y.mean) for _, x, y in rows], [short(label) for label, *_ in rows], busy)


def _exact(value: int) -> Estimate:
    return Estimate(float(value), None, None, None, 1, (float(value),))


def ranks(material: Material) -> Figure:
    """A panel for each test set, a line for each way to fine-tune.

    Raises:
        Missing: no method was run at two ranks.
    """
    series = rank_series(material.runs)
    if not series:
        raise Missing("one method at two or more k, e.g. lora with k = 1, 4 and 16")
    base = base_accuracy(material.runs)
    figure = canvas(3.1, "Test accuracy against the rank k")
    names = [name for name in SETS if any(name in point.accuracy for curve in series for point in curve.points)]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _ranks_panel(axes, name, series, base.get(name))
    figure.axes[-1].legend()
    counts = [e.n for curve in series for point in curve.points for e in point.accuracy.values()]
    caption(figure, f"{over(counts)}; each panel has its own scale")
    return figure


def _ranks_panel(axes: Axes, name: str, series: list[RankSeries], base: Estimate | None) -> None:
    ranks = sorted({point.k for one in series for point in one.points})
    shown: list[Estimate] = []
    if base:
        base_line(axes, base)
        shown.append(base)
    for index, one in enumerate(series):
        points = [(point.k, point.accuracy[name]) for point in one.points if name in point.accuracy]
        # Side by side, so that intervals at the same k do not hide each other.
        shift = 1.05 ** (index - (len(series) - 1) / 2)
        look = series_look(index)
        means = [estimate.mean for _, estimate in points]
        axes.plot([k * shift for k, _ in points], means, label=short(one.label), **look)
        for k, estimate in points:
            axes.errorbar([k * shift], [estimate.mean], bar(estimate), color=look["color"], capsize=2.5, elinewidth=0.9)
        shown += [estimate for _, estimate in points]
    axes.set_xscale("log", base=2)
    marks(axes.xaxis, ranks)
    axes.set_ylim(limits(shown, least=0.5))
    axes.set_xlabel("rank k")
    axes.set_ylabel("accuracy, %")
    axes.set_title(SETS[name])


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
