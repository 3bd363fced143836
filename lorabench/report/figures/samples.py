"""Test images: MNIST's, the same in F-MNIST, and those that are still wrong after fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lorabench.report.figures.material import Material, Missing, Pictures
from lorabench.report.figures.style import canvas, caption

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Bytes = npt.NDArray[np.uint8]
    Indices = npt.NDArray[np.intp]

ACROSS = 10
"""Images in a row."""


def draw(material: Material) -> Figure:
    """Changed images, and below the mistakes that are left, changed and others, chosen evenly over the test set.

    Raises:
        Missing: there are no images.
    """
    pictures = material.pictures
    if isinstance(pictures, str):
        raise Missing(pictures)
    rows = _rows(pictures, material.changed)
    figure = canvas(0.98 * len(rows) + 0.75, f"F-MNIST, and what {pictures.label} still takes for something else")
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
