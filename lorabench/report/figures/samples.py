"""Test images: MNIST's, the same in F-MNIST, and those that are still wrong after fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lorabench.report.figures.material import Missing
from lorabench.report.figures.style import canvas, caption

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from lorabench.report.figures.material import Material, Pictures

    Indices = npt.NDArray[np.intp]

ACROSS = 10
"""Images in a row."""


def draw(material: Material) -> Figure:
    """Changed images, and below the mistakes that are left, changed and others, chosen evenly over the test set.

    Raises:
        Missing: there are no images.
    """
    found = material.pictures
    if isinstance(found, str):
        raise Missing(found)
    rows = _rows(found, material.changed)
    figure = canvas(0.98 * len(rows) + 0.75, f"F-MNIST, and what {found.label} still takes for something else")
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
    wrong = found.after != found.labels
    caption(
        figure,
        f"true digit → predicted digit; n = {len(found.labels):,} test images, {int(found.flipped.sum()):,} "
        f"{material.changed}, {int(wrong.sum()):,} wrong after fine-tuning",
    )
    return figure


def _rows(found: Pictures, changed: str) -> list[tuple[str, npt.NDArray[np.uint8], Indices, list[str]]]:
    """Of each row its title, its images, which of them it shows, and what stands below them."""
    wrong = found.after != found.labels
    shown = _evenly(np.flatnonzero(found.flipped))
    left, others = np.flatnonzero(wrong & found.flipped), np.flatnonzero(wrong & ~found.flipped)
    parts = [
        ("MNIST", found.mnist, shown, [str(digit) for digit in found.labels[shown]]),
        ("F-MNIST, as the base sees it", found.fmnist, shown, _taken(found, found.before, shown)),
        (
            f"{changed} and still wrong: {len(left):,} of {int(found.flipped.sum()):,}",
            found.fmnist,
            _evenly(left),
            _taken(found, found.after, _evenly(left)),
        ),
        (
            f"not {changed} and wrong: {len(others):,} of {int((~found.flipped).sum()):,}",
            found.fmnist,
            _evenly(others),
            _taken(found, found.after, _evenly(others)),
        ),
    ]
    return [part for part in parts if len(part[2])]


def _evenly(indices: Indices) -> Indices:
    """Up to `ACROSS` of `indices`, evenly spaced."""
    count = min(ACROSS, len(indices))
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(np.intp)] if count else indices


def _taken(found: Pictures, predicted: npt.NDArray[np.uint8], chosen: Indices) -> list[str]:
    return [f"{found.labels[index]} → {predicted[index]}" for index in chosen]
