"""Accuracy against k on both test sets, with 95% t intervals over seeds, and the base's accuracy as a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis.quantities import SETS
from lorabench.analysis.rank import base_accuracy, rank_series
from lorabench.report.figures.material import Missing
from lorabench.report.figures.style import bar, base_line, canvas, caption, limits, marks, over, series_look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lorabench.analysis.inference import Estimate
    from lorabench.analysis.rank import RankSeries
    from lorabench.report.figures.material import Material


def draw(material: Material) -> Figure:
    """A panel for each test set, a line for each way to fine-tune.

    Raises:
        Missing: no method was run at two ranks.
    """
    series = rank_series(material.runs)
    if not series:
        raise Missing("one method at two or more k, e.g. lora with k = 1, 4 and 16")
    base = base_accuracy(material.runs)
    figure = canvas(3.1, "Test accuracy against the rank k")
    names = [name for name in SETS if any(name in point.accuracy for one in series for point in one.points)]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(axes, name, series, base.get(name))
    figure.axes[-1].legend()
    counts = [e.n for one in series for point in one.points for e in point.accuracy.values()]
    caption(figure, f"{over(counts)}; each panel has its own scale")
    return figure


def _panel(axes: Axes, name: str, series: list[RankSeries], base: Estimate | None) -> None:
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
        axes.plot([k * shift for k, _ in points], means, label=one.label, **look)
        for k, estimate in points:
            axes.errorbar([k * shift], [estimate.mean], bar(estimate), color=look["color"], capsize=2.5, elinewidth=0.9)
        shown += [estimate for _, estimate in points]
    axes.set_xscale("log", base=2)
    marks(axes.xaxis, ranks)
    axes.set_ylim(limits(shown, least=0.5))
    axes.set_xlabel("rank k")
    axes.set_ylabel("accuracy, %")
    axes.set_title(SETS[name])
