"""Wrongly classified images, drawn in the terminal: `evaluate RUN --show-errors 12`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.segment import Segment

from lorabench.report.digits import GAP, SIZE, draw
from lorabench.report.layout import heading, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lorabench.evaluate import Mistake
    from lorabench.runs import Run

_LEGEND = "true digit as prediction, confidence (softmax); #index in the test set"


def mistakes_data(wrong: Sequence[Mistake]) -> list[dict[str, Any]]:
    """All of them as plain data, without their pixels; confidences are fractions."""
    keys = ("index", "true", "predicted", "confidence", "flipped")
    return [{key: getattr(mistake, key) for key in keys} for mistake in wrong]


def mistakes(run: Run, wrong: Sequence[Mistake], limit: int) -> RenderableType:
    """How many F-MNIST test images a run gets wrong, and the first `limit` of them as pictures."""
    mirrored = sum(mistake.flipped for mistake in wrong)
    counts = f"{len(wrong):,} of {run.metrics['fmnist'].n:,} F-MNIST test images wrong, {mirrored:,} of them mirrored"
    return stack(
        [
            heading(run.id),
            note(f"{counts}\nmost confident first: {_LEGEND}") if wrong else note(counts),
            _Gallery(tuple(wrong[:limit])) if wrong else None,
        ]
    )


@dataclass(frozen=True)
class _Gallery:
    """A renderable: each image below its two lines of caption, as many side by side as fit, four at 80 columns."""

    wrong: tuple[Mistake, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fit = max(1, (options.max_width + GAP) // (SIZE + GAP))
        for start in range(0, len(self.wrong), fit):
            if start:
                yield Segment.line()
            row = self.wrong[start : start + fit]
            tiles = [[*_caption(mistake), *draw(mistake.image, ascii_only=options.ascii_only)] for mistake in row]
            for parts in zip(*tiles, strict=True):
                yield Segment((" " * GAP).join(part.ljust(SIZE) for part in parts).rstrip())
                yield Segment.line()


def _caption(mistake: Mistake) -> tuple[str, str]:
    confidence = f"{100 * mistake.confidence:.1f}%"
    return f"{mistake.true} as {mistake.predicted}  {confidence}", f"#{mistake.index}{'  mirrored' * mistake.flipped}"
