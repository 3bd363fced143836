"""The learning-forgetting plane: what a method gains on the mirrored images against what it loses on MNIST.

Biderman et al., "LoRA learns less and forgets less", 2024, arXiv:2405.09673.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabench.analysis.aggregate import differences, means
from lorabench.analysis.inference import Estimate
from lorabench.analysis.quantities import QUANTITIES
from lorabench.analysis.settings import collect
from lorabench.report.figures.labels import place
from lorabench.report.figures.material import Missing
from lorabench.report.figures.style import COLOURS, PALE, bar, canvas, caption, limits, over

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lorabench.analysis.settings import Collection, Setting
    from lorabench.report.figures.material import Material


@dataclass(frozen=True)
class Tradeoff:
    """In points, paired by seed: what `gained` on the mirrored images, what `forgotten` of MNIST (base − tuned)."""

    label: str
    gained: Estimate
    forgotten: Estimate


def tradeoffs(material: Material) -> list[Tradeoff]:
    """A row for each way to fine-tune whose base was measured on the same images."""
    runs = collect(material.runs)
    return [row for setting in runs.settings if (row := _tradeoff(setting, runs))]


def _tradeoff(setting: Setting, runs: Collection) -> Tradeoff | None:
    gained = differences([(runs.base_of(run), run) for run in setting.runs]).get("fmnist.flipped")
    forgotten = means(runs.with_bases(setting).runs, [QUANTITIES["forgotten"]]).get("forgotten")
    if not gained or not isinstance(forgotten, Estimate):
        return None
    return Tradeoff(setting.label, gained.estimate, forgotten)


def draw(material: Material) -> Figure:
    """A point for each way to fine-tune, with intervals both ways; up is learning, left is remembering.

    Raises:
        Missing: no fine-tuned run has mirrored test images and a base to compare with.
    """
    rows = tradeoffs(material)
    if not rows:
        raise Missing("a fine-tuned run measured on mirrored images and on MNIST, before and after")
    figure = canvas(4.6, "Learning against forgetting")
    axes = figure.subplots()
    axes.axvline(0, color=PALE, linewidth=0.8)
    for row in rows:
        axes.errorbar(
            [row.forgotten.mean],
            [row.gained.mean],
            bar(row.gained),
            bar(row.forgotten),
            fmt="o",
            color=COLOURS[2],
            ecolor="#8fa9bd",
            elinewidth=0.8,
            capsize=2,
            zorder=3,
        )
    axes.set_ylim(limits([row.gained for row in rows], least=2))
    axes.set_xlim(limits([row.forgotten for row in rows], least=0.5, extra=[0]))
    axes.set_xlabel("forgotten: accuracy on MNIST, base − tuned, points")
    axes.set_ylabel("learned: accuracy on mirrored images, tuned − base, points")
    caption(figure, f"{over(row.gained.n for row in rows)}, paired by seed; best is up and to the left")
    spots = [(row.forgotten.mean, row.gained.mean) for row in rows]
    place(axes, spots, [row.label for row in rows], avoid=[cross for row in rows for cross in _cross(row)])
    return figure


def _cross(row: Tradeoff) -> list[list[tuple[float, float]]]:
    """The two bars of a point, from end to end."""
    x, y = row.forgotten, row.gained
    across = [[(x.low, y.mean), (x.high, y.mean)]] if x.low is not None and x.high is not None else []
    upright = [[(x.mean, y.low), (x.mean, y.high)]] if y.low is not None and y.high is not None else []
    return [*across, *upright]
