"""Test images, with those that are still wrong after fine-tuning; and confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from lorabench.analysis import number
from lorabench.analysis.quantities import SETS
from lorabench.analysis.settings import collect, featured_setting
from lorabench.analysis.single import summed
from lorabench.report.figures import Material, Missing, Pictures
from lorabench.report.figures.style import canvas, caption, short
from lorabench.runs import Metrics

Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.intp]


def confusions(material: Material) -> Figure:
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
            image = _panel(axes, f"{short(label)}: {SETS[name]}", [metrics[name] for metrics in of_seeds])
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


ACROSS = 10
"""Images in a row."""


def samples(material: Material) -> Figure:
    """Changed images, and below the mistakes that are left, changed and others, chosen evenly over the test set.

    Raises:
        Missing: there are no images.
    """
    pictures = material.pictures
    if isinstance(pictures, str):
        raise Missing(pictures)
    rows = _rows(pictures, material.changed)
    figure = canvas(
        0.98 * len(rows) + 0.75, f"F-MNIST, and what {short(pictures.label)} still takes for something else"
    )
    figure.set_layout_engine("none")  # titles as wide as several images would pull a computed layout apart
    high = figure.get_figheight()
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.45 / high, "top": 1 - 0.55 / high}
    grid = figure.add_gridspec(len(rows), ACROSS, wspace=0.1, hspace=0.45, **edges).subplots(squeeze=False)
    for axes_row, (title, images, chosen, captions) in zip(grid, rows, strict=True):
        for column, axes in enumerate(axes_row):
            axes.set_axis_off()
            if column < len(chosen):
                axes.imshow(images[chosen[column]], cmap="Greys", vmin=0, vmax=255)
                axes.text(0.5, -0.04, captions[column], ha="center", va="top", transform=axes.transAxes, fontsize=6.5)
        axes_row[0].set_title(title)
    wrong = pictures.after != pictures.labels
    caption(
        figure,
        f"true digit → predicted digit; n = {len(pictures.labels):,} test images, {int(pictures.flipped.sum()):,} "
        f"{material.changed}, {int(wrong.sum()):,} wrong after fine-tuning",
    )
    return figure


def _rows(pictures: Pictures, changed: str) -> list[tuple[str, Bytes, Indices, list[str]]]:
    """Of each row its title, its images, which of them it shows, and what stands below them."""
    wrong = pictures.after != pictures.labels
    parts: list[tuple[str, Bytes, Indices, Bytes | None]] = [
        ("MNIST", pictures.mnist, np.flatnonzero(pictures.flipped), None),
        ("F-MNIST, as the base sees it", pictures.fmnist, np.flatnonzero(pictures.flipped), pictures.before),
    ]
    for title, mask in (
        (f"{changed} and still wrong", pictures.flipped),
        (f"not {changed} and wrong", ~pictures.flipped),
    ):
        left = np.flatnonzero(wrong & mask)
        parts.append((f"{title}: {len(left):,} of {int(mask.sum()):,}", pictures.fmnist, left, pictures.after))
    rows: list[tuple[str, Bytes, Indices, list[str]]] = []
    for title, images, indices, predicted in parts:
        chosen = _evenly(indices)
        captions = [
            f"{pictures.labels[i]}" if predicted is None else f"{pictures.labels[i]} → {predicted[i]}" for i in chosen
        ]
        rows.append((title, images, chosen, captions))
    return [row for row in rows if len(row[2])]


def _evenly(indices: Indices) -> Indices:
    """Up to `ACROSS` of `indices`, evenly spaced."""
    count = min(ACROSS, len(indices))
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(np.intp)] if count else indices
