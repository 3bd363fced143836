"""Training curves: loss and accuracy on the training images by epoch, seeds folded into their mean and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from lorabench.analysis import number
from lorabench.analysis.settings import collect
from lorabench.report.figures.labels import beside, margin, settle
from lorabench.report.figures.material import Missing
from lorabench.report.figures.style import COLOURS, LINES, MARKERS, WIDTH, canvas, caption, logarithmic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lorabench.report.figures.material import Material
    from lorabench.runs import Epoch


BASE = "base"


@dataclass(frozen=True)
class Curve:
    """One way to train: loss (nats) and accuracy (%) of each seed, epoch by epoch, as far as all seeds came."""

    label: str
    loss: list[list[float]]
    accuracy: list[list[float]]

    @property
    def epochs(self) -> int:
        return len(self.loss[0])


def curves(material: Material) -> list[Curve]:
    """A curve for each way to train bases, then for each way to fine-tune, of those that have two epochs or more."""
    bases = [run for run in material.runs if run.stage == "pretrain" and run.status == "done"]
    trained = {label: {base for base, _ in way} for label, way in collect(material.runs).bases_by_training.items()}
    named = [(label, [run for run in bases if run.id in way]) for label, way in trained.items()]
    named += [(arm.label, list(arm.runs)) for arm in collect(material.runs).settings]
    found = [
        _curve(label, [material.history[run.id] for run in runs if material.history.get(run.id)])
        for label, runs in named
    ]
    return [curve for curve in found if curve.loss and curve.epochs > 1]


def _curve(label: str, histories: Sequence[Sequence[Epoch]]) -> Curve:
    shared = min((len(history) for history in histories), default=0)
    return Curve(
        label,
        [[epoch.loss for epoch in history[:shared]] for history in histories],
        [[100 * epoch.accuracy for epoch in history[:shared]] for history in histories],
    )


def draw(material: Material) -> Figure:
    """Loss above, accuracy below; each curve is named at its end.

    Raises:
        Missing: no run has two epochs or more.
    """
    found = curves(material)
    if not found:
        raise Missing("a run of two or more epochs, with its history.jsonl")
    losses = [(curve.label, curve.loss) for curve in found]
    accuracies = [(curve.label, curve.accuracy) for curve in found]
    figure = canvas(2 * max(2.2, 0.13 * len(found) + 0.5) + 0.7, "Training, epoch by epoch")
    upper, lower = figure.subplots(2, 1, sharex=True)
    _panel(upper, losses)
    logarithmic(upper.yaxis)
    upper.set_ylabel("training loss, nats")
    _panel(lower, accuracies)
    lower.set_ylabel("training accuracy, %")
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()
    counts = sorted({len(curve.loss) for curve in found})
    what = "1 seed" if counts == [1] else f"mean over n = {number.ranges(counts)} seeds; bands: from least to greatest"
    based = "; base: on MNIST, the others: on F-MNIST" if found[0].label.startswith(BASE) else ""
    caption(figure, what + based)
    labels = [curve.label for curve in found]
    figure.set_layout_engine("constrained", rect=(0, 0, 1 - margin(labels) / WIDTH, 1), hspace=0.1)
    settle(figure)
    for axes, series in (upper, losses), (lower, accuracies):
        ends = [(len(seeds[0]), sum(seed[-1] for seed in seeds) / len(seeds)) for _, seeds in series]
        beside(axes, ends, labels, [COLOURS[index % len(COLOURS)] for index in range(len(found))])
    return figure


def _panel(axes: Axes, series: Sequence[tuple[str, list[list[float]]]]) -> None:
    for index, (label, seeds) in enumerate(series):
        epochs = range(1, len(seeds[0]) + 1)
        by_epoch = list(zip(*seeds, strict=True))
        colour = COLOURS[index % len(COLOURS)]
        axes.fill_between(
            epochs, [min(e) for e in by_epoch], [max(e) for e in by_epoch], color=colour, alpha=0.12, linewidth=0
        )
        axes.plot(
            epochs,
            [sum(e) / len(e) for e in by_epoch],
            color=colour,
            linestyle=LINES[index % len(LINES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=3.5,
            label=label,
        )
