"""F-MNIST accuracy against trained parameters: a point for each way to fine-tune, and the Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis.groups import method_rows
from lorabench.analysis.pareto import front
from lorabench.analysis.quantities import HEADLINE
from lorabench.analysis.rank import base_accuracy
from lorabench.report.figures.labels import place
from lorabench.report.figures.material import Missing
from lorabench.report.figures.style import COLOURS, bar, base_line, canvas, caption, limits, logarithmic, over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from lorabench.report.figures.material import Material


def draw(material: Material) -> Figure:
    """Filled points are on the front: nothing else is as accurate with as few parameters.

    Raises:
        Missing: fewer than two ways to fine-tune were measured.
    """
    rows = [
        (row.label, row.values.get("params.trainable"), row.estimate(HEADLINE)) for row in method_rows(material.runs)
    ]
    found = [(label, size, mean) for label, size, mean in rows if size and isinstance(size, int) and mean]
    if len(found) < 2:
        raise Missing("two or more ways to fine-tune, measured on F-MNIST")
    sizes, estimates = [size for _, size, _ in found], [estimate for *_, estimate in found]
    spots = [(float(size), estimate.mean) for size, estimate in zip(sizes, estimates, strict=True)]
    best = front(spots)
    base = base_accuracy(material.runs).get("fmnist")
    figure = canvas(4.4, "Test accuracy on F-MNIST against trained parameters")
    axes = figure.subplots()
    left, right = min(sizes) / 1.8, max(sizes) * 1.8
    axes.set_xlim(left, right)
    logarithmic(axes.xaxis)
    axes.set_ylim(limits([*estimates, *([base] if base else [])], least=0.5))
    steps = _steps(sorted(spot for spot, on in zip(spots, best, strict=True) if on), right)
    axes.plot([x for x, _ in steps], [y for _, y in steps], color=COLOURS[2], zorder=1.5)
    busy: list[list[tuple[float, float]]] = [steps]
    if base:
        base_line(axes, base)
        busy.append([(left, base.mean), (right, base.mean)])
    for index, (size, estimate) in enumerate(zip(sizes, estimates, strict=True)):
        on = best[index]
        colour = COLOURS[2] if on else "#555555"
        axes.errorbar(
            [size],
            [estimate.mean],
            bar(estimate),
            fmt="D" if on else "o",
            color=colour,
            capsize=2,
            elinewidth=0.8,
            markerfacecolor=colour if on else "white",
        )
        if estimate.low is not None and estimate.high is not None:
            busy.append([(size, estimate.low), (size, estimate.high)])
    axes.set_xlabel("trained parameters")
    axes.set_ylabel("accuracy on F-MNIST, %")
    caption(figure, f"{over(e.n for e in estimates)}; line and filled points: the Pareto front of the means")
    place(axes, spots, [label for label, *_ in found], avoid=busy)
    return figure


def _steps(edge: Sequence[tuple[float, float]], right: float) -> list[tuple[float, float]]:
    """The corners of a line that keeps the value of the last point on the front until the next one, or to `right`."""
    corners = [edge[0]]
    for cost, value in [*edge[1:], (right, edge[-1][1])]:
        corners += [(cost, corners[-1][1]), (cost, value)]
    return corners
