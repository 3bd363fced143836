"""ΔW by layer and way to fine-tune: Frobenius norm, stable rank, rank at 90% of the energy, as runs recorded them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from lorabench.analysis import inference
from lorabench.analysis.inference import Estimate
from lorabench.analysis.settings import Setting, collect
from lorabench.analysis.single import spectrum_rows
from lorabench.report.figures.material import Material, Missing
from lorabench.report.figures.style import bar, canvas, caption, logarithmic, over, series_look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {
    "frobenius": "Frobenius norm of ΔW",
    "stable_rank": "stable rank of ΔW",
    "rank90": "rank at 90% of the energy",
}


def draw(material: Material) -> Figure:
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
    panels[0].set_yticks(range(len(known)), list(known))
    panels[0].set_ylim(len(known) - 0.5, -0.5)
    shapes = [Line2D([], [], **_look(index), label=layer) for index, layer in enumerate(layers)]
    figure.legend(handles=shapes, loc="outside upper right", ncols=len(layers), handletextpad=0.2)
    counts = [estimate.n for spectra in known.values() for values in spectra.values() for estimate in values.values()]
    without = [label for label, spectra in measured.items() if not spectra]
    left_out = f"\nleft out, since they do not fold into the weights: {', '.join(without)}" if without else ""
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
