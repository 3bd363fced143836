"""Confusion matrices, MNIST beside F-MNIST as on the talk's slide: of the bases, and below after fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.colors import PowerNorm

from lorabench.analysis import number
from lorabench.analysis.confusion import summed
from lorabench.analysis.quantities import SETS
from lorabench.analysis.settings import collect, featured_setting
from lorabench.report.figures.material import Material, Missing
from lorabench.report.figures.style import canvas, caption
from lorabench.runs import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def draw(material: Material) -> Figure:
    """Two panels for the bases, two more for the arm that the report shows in full.

    Raises:
        Missing: no run was measured on both test sets.
    """
    runs = collect(material.runs)
    main = featured_setting(runs.settings)
    rows = [("base", [runs.base_metrics(run) for run in main.runs] if main else list(runs.bases.values()))]
    rows += [(main.label, [run.metrics for run in main.runs])] if main else []
    rows = [
        (label, of_seeds) for label, of_seeds in rows if of_seeds and all(set(SETS) <= set(one) for one in of_seeds)
    ]
    if not rows:
        raise Missing("a finished run that was measured on MNIST and on F-MNIST")
    figure = canvas(3.45 * len(rows) + 0.45, "What is taken for what, on the test images")
    panels = figure.subplots(len(rows), 2, squeeze=False)
    image = None
    for panel_row, (label, of_seeds) in zip(panels, rows, strict=True):
        for axes, name in zip(panel_row, SETS, strict=True):
            image = _panel(axes, f"{label}: {SETS[name]}", [metrics[name] for metrics in of_seeds])
    assert image is not None
    scale = figure.colorbar(image, ax=panels, shrink=0.6, aspect=35, pad=0.02, ticks=[0, 1, 5, 20, 50, 100])
    scale.set_label("% of the true digit")
    scale.outline.set_visible(False)
    seeds, images = len(rows[0][1]), rows[0][1][0]["mnist"].n
    unit = "images" if seeds == 1 else "images, mean over the seeds"
    caption(figure, f"numbers: {unit}, empty below one half; n = {number.seeds(seeds)}, {images:,} test images each")
    return figure


def _panel(axes: Axes, title: str, of_seeds: Sequence[Metrics]) -> AxesImage:
    total = summed(metrics.confusion for metrics in of_seeds)
    shares = [[100 * count / max(1, sum(row)) for count in row] for row in total]
    image = axes.imshow(shares, cmap="Greys", norm=PowerNorm(0.5, 0, 100))
    for true, row in enumerate(total):
        for predicted, count in enumerate(row):
            mean = count / len(of_seeds)
            if round(mean):
                ink = "white" if shares[true][predicted] > 30 else "black"
                axes.text(
                    predicted, true, f"{mean:.0f}", ha="center", va="center", fontsize=6, color=ink, in_layout=False
                )
    digits = range(len(total))
    axes.set_xticks(digits)
    axes.set_yticks(digits)
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("true digit")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    right = sum(metrics.correct for metrics in of_seeds) / sum(metrics.n for metrics in of_seeds)
    axes.set_title(f"{title}, {number.decimal(100 * right)}% right")
    return image
