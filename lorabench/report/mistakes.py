"""Wrongly classified images, drawn in the terminal: `evaluate RUN --show-errors 12`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lorabench.report.blocks import Picture
from lorabench.report.digits import beside, draw, fitting
from lorabench.report.style import heading, line, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.evaluate import Mistake
    from lorabench.report.blocks import Block, Line
    from lorabench.runs import Run

_LEGEND = "true digit as prediction, confidence (softmax); #index in the test set"


def mistakes_data(wrong: Sequence[Mistake]) -> list[dict[str, Any]]:
    """All of them as plain data, without their pixels; confidences are fractions."""
    keys = ("index", "true", "predicted", "confidence", "flipped")
    return [{key: getattr(mistake, key) for key in keys} for mistake in wrong]


def mistakes(run: Run, wrong: Sequence[Mistake], limit: int) -> Block:
    """How many F-MNIST test images a run gets wrong, and the first `limit` of them as pictures."""
    mirrored = sum(mistake.flipped for mistake in wrong)
    counts = f"{len(wrong):,} of {run.metrics['fmnist'].n:,} F-MNIST test images wrong, {mirrored:,} of them mirrored"
    return stack(
        [
            heading(run.id),
            note(f"{counts}\nmost confident first: {_LEGEND}") if wrong else note(counts),
            Picture(partial(_gallery, wrong[:limit])) if wrong else None,
        ]
    )


def _gallery(wrong: Sequence[Mistake], columns: int, ascii_only: bool) -> list[Line]:
    """Each image below its two lines of caption, as many side by side as fit, four at 80 columns."""
    lines: list[Line] = []
    for start in range(0, len(wrong), fitting(columns)):
        row = wrong[start : start + fitting(columns)]
        tiles = [[*_caption(mistake), *draw(mistake.image, ascii_only=ascii_only)] for mistake in row]
        lines += [*([line("")] if lines else []), *beside(tiles, columns)]
    return lines


def _caption(mistake: Mistake) -> tuple[str, str]:
    confidence = f"{100 * mistake.confidence:.1f}%"
    return f"{mistake.true} as {mistake.predicted}  {confidence}", f"#{mistake.index}{'  mirrored' * mistake.flipped}"
