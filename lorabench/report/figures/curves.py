"""Training curves: loss and accuracy on the training images by epoch, seeds folded into their mean and range."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from matplotlib.ticker import MaxNLocator

from lorabench.analysis import number
from lorabench.analysis.settings import collect
from lorabench.report.figures.material import Material, Missing
from lorabench.report.figures.style import canvas, caption, logarithmic, series_look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 40
"""Characters of a name in the legend."""


class Curve(NamedTuple):
    """One way to train: loss (nats) and accuracy (%) of each seed, epoch by epoch, as far as all seeds came."""

    label: str
    loss: list[list[float]]
    accuracy: list[list[float]]


def curves(material: Material) -> list[Curve]:
    """A curve for each way to train bases, then for each way to fine-tune, of those that have two epochs or more."""
    known = collect(material.runs)
    ids = {label: [base for base, _ in bases] for label, bases in known.bases_by_training.items()}
    ids |= {setting.label: [run.id for run in setting.runs] for setting in known.settings}
    done = {run.id for run in material.runs if run.status == "done"}
    drawn: list[Curve] = []
    for label, names in ids.items():
        histories = [material.history[name] for name in dict.fromkeys(names) if name in done & material.history.keys()]
        # Seeds that came to different epochs are compared as far as all came.
        epochs = list(zip(*filter(None, histories), strict=False))
        if len(epochs) > 1:
            seeds = list(zip(*epochs, strict=True))
            losses = [[epoch.loss for epoch in seed] for seed in seeds]
            drawn.append(Curve(label, losses, [[100 * epoch.accuracy for epoch in seed] for seed in seeds]))
    return drawn


def draw(material: Material) -> Figure:
    """Loss above, accuracy below, their means over seeds in bands from least to greatest.

    Raises:
        Missing: no run has two epochs or more.
    """
    drawn = curves(material)
    if not drawn:
        raise Missing("a run of two or more epochs, with its history.jsonl")
    labels = [curve.label if len(curve.label) <= LONGEST else f"{curve.label[:LONGEST]}…" for curve in drawn]
    figure = canvas(max(5.1, 0.16 * len(drawn) + 0.7), "Training, epoch by epoch")
    upper, lower = figure.subplots(2, 1, sharex=True)
    panels = (upper, [curve.loss for curve in drawn]), (lower, [curve.accuracy for curve in drawn])
    for axes, series in panels:
        for index, seeds in enumerate(series):
            epochs, by_epoch = range(1, len(seeds[0]) + 1), list(zip(*seeds, strict=True))
            look = series_look(index)
            least, most = [min(values) for values in by_epoch], [max(values) for values in by_epoch]
            axes.fill_between(epochs, least, most, color=look["color"], alpha=0.12, linewidth=0)
            means = [sum(values) / len(values) for values in by_epoch]
            axes.plot(epochs, means, markersize=3.5, label=labels[index], **look)
    logarithmic(upper.yaxis)
    upper.set_ylabel("training loss, nats")
    lower.set_ylabel("training accuracy, %")
    lower.set_xlabel("epoch")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()
    counts = sorted({len(curve.loss) for curve in drawn})
    meaning = (
        "1 seed" if counts == [1] else f"mean over n = {number.ranges(counts)} seeds; bands: from least to greatest"
    )
    caption(figure, meaning + ("; base: on MNIST, the others: on F-MNIST" if labels[0].startswith("base") else ""))
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper")
    return figure
