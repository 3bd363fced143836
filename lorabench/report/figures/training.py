"""What training did: loss and accuracy by epoch, and the change of the weights by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lorabench.analysis import inference, number
from lorabench.analysis.inference import Estimate
from lorabench.analysis.settings import Setting, collect
from lorabench.analysis.single import spectrum_rows
from lorabench.report.figures import Material, Missing
from lorabench.report.figures.style import bar, canvas, caption, logarithmic, over, series_look, short


class Curve(NamedTuple):
    """One way to train: loss (nats) and accuracy (%) of each seed, epoch by epoch, as far as all seeds came."""

    label: str
    loss: list[list[float]]
    accuracy: list[list[float]]


def curves_of(material: Material) -> list[Curve]:
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


def curves(material: Material) -> Figure:
    """Loss above, accuracy below, their means over seeds in bands from least to greatest.

    Raises:
        Missing: no run has two epochs or more.
    """
    drawn = curves_of(material)
    if not drawn:
        raise Missing("a run of two or more epochs, with its history.jsonl")
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
            axes.plot(epochs, means, markersize=3.5, label=short(drawn[index].label), **look)
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
    caption(figure, meaning + ("; base: on MNIST, the others: on F-MNIST" if drawn[0].label.startswith("base") else ""))
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper")
    return figure


_PANELS = {
    "frobenius": "Frobenius norm of ΔW",
    "stable_rank": "stable rank of ΔW",
    "rank90": "rank at 90% of the energy",
}


def spectra(material: Material) -> Figure:
    """Three panels that share their rows, one for each way to fine-tune; a marker for each layer.

    Raises:
        Missing: no run recorded a ΔW.
    """
    measured = {arm.label: _spectra(arm) for arm in collect(material.runs).settings}
    known = {label: spectra for label, spectra in measured.items() if spectra}
    if not known:
        raise Missing("a fine-tuned run whose method can be merged, which then records its ΔW")
    layers = list(dict.fromkeys(layer for spectra in known.values() for layer in spectra))
    figure = canvas(1.3 + 0.26 * len(known), "What fine-tuning did to the weights")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (quantity, title) in zip(panels, _PANELS.items(), strict=True):
        for row, spectra in enumerate(known.values()):
            for index, layer in enumerate(layers):
                _point(axes, row + 0.22 * (index - (len(layers) - 1) / 2), spectra, layer, quantity, index)
            if not any(values[quantity].mean for values in spectra.values()):
                axes.text(0.04, row, "ΔW = 0", va="center", transform=axes.get_yaxis_transform(), color="#555555")
        logarithmic(axes.xaxis)
        axes.set_xlabel(title)
    panels[0].set_yticks(range(len(known)), list(map(short, known)))
    panels[0].set_ylim(len(known) - 0.5, -0.5)
    shapes = [Line2D([], [], **_look(index), label=layer) for index, layer in enumerate(layers)]
    figure.legend(handles=shapes, loc="outside upper right", ncols=len(layers), handletextpad=0.2)
    counts = [estimate.n for spectra in known.values() for values in spectra.values() for estimate in values.values()]
    without = [label for label, spectra in measured.items() if not spectra]
    left_out = f"\nleft out, since they cannot be merged: {short(', '.join(without), 120)}" if without else ""
    caption(figure, f"{over(counts)}; ΔW = W1 − W0{left_out}")
    return figure


def _point(
    axes: Axes, height: float, spectra: Mapping[str, Mapping[str, Estimate]], layer: str, quantity: str, index: int
) -> None:
    # What did not change has no place on a logarithmic axis.
    if layer in spectra and spectra[layer][quantity].mean > 0:
        estimate = spectra[layer][quantity]
        axes.errorbar([estimate.mean], [height], xerr=bar(estimate), elinewidth=0.8, capsize=1.5, **_look(index))


def _look(index: int) -> dict[str, Any]:
    look = series_look(index) | {"linestyle": "", "markersize": 3.8}
    return {**look, "markerfacecolor": "white" if index else look["color"]}


def _spectra(arm: Setting) -> dict[str, dict[str, Estimate]]:
    """Layer -> quantity -> its mean over the arm's seeds."""
    rows = [row for run in arm.runs for row in spectrum_rows(run)]
    return {
        layer: {
            quantity: average
            for quantity in _PANELS
            if (average := inference.mean([getattr(row, quantity) for row in rows if row.layer == layer]))
        }
        for layer in dict.fromkeys(row.layer for row in rows)
    }
