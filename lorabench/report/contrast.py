"""Two accuracies and their difference: image by image where the images are the same, else as independent samples.

paired("fmnist", "F-MNIST", base == labels, tuned == labels)       # mid-p McNemar test, Tango's interval
unpaired("fmnist", "F-MNIST", tally(9276, 10_000), tally(4893, 5_000), "other images")    # Newcombe's interval
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabench import inference
from lorabench.inference import Count
from lorabench.report import number
from lorabench.report.accuracy import NO_DIFFERENCE
from lorabench.report.style import grid, line, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from lorabench.report.blocks import Block

    Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tally:
    """`correct` of `n` images; `accuracy` in percent."""

    n: int
    correct: int
    accuracy: float


@dataclass(frozen=True)
class Contrast:
    """Second − first, in points, with its 95% interval.

    Attributes:
        name: `fmnist`, `fmnist.flipped`, ...
        label: what a table calls it.
        detectable: whether `p` is below 0.05, and the interval then excludes 0; without `p` whether the interval does.
        lost: images that only the first got right; None if the two saw different images.
        gained: images that only the second got right; None likewise.
        p: of the mid-p McNemar test; None likewise.
        unpaired: why the two cannot be compared image by image; None if they are.
        told: which images these are, where it is not all of both; None else.
    """

    name: str
    label: str
    first: Tally
    second: Tally
    difference: float
    low: float
    high: float
    detectable: bool
    lost: int | None = None
    gained: int | None = None
    p: float | None = None
    unpaired: str | None = None
    told: str | None = None


def tally(correct: int, n: int) -> Tally:
    """`n` is not 0."""
    return Tally(n, correct, 100 * correct / n)


def paired(name: str, label: str, first: Right, second: Right, told: str | None = None) -> Contrast:
    """The same images: `first` and `second` (n,) say which of them each got right; n is not 0."""
    n, lost, gained = len(first), int((first & ~second).sum()), int((~first & second).sum())
    found = inference.same_images(lost, gained, n)
    return Contrast(
        name=name,
        label=label,
        first=tally(int(first.sum()), n),
        second=tally(int(second.sum()), n),
        difference=found.difference,
        low=found.low,
        high=found.high,
        detectable=found.detectable,
        lost=lost,
        gained=gained,
        p=found.p,
        told=told,
    )


def unpaired(name: str, label: str, first: Tally, second: Tally, reason: str) -> Contrast:
    """Different images, or images whose predictions are not there any more: `reason` says which."""
    gap, ends, apart = inference.other_images(Count(first.correct, first.n), Count(second.correct, second.n))
    return Contrast(name, label, first, second, gap, *ends, apart, unpaired=reason)


def contrast_table(title: str, rows: Sequence[Contrast], names: tuple[str, str]) -> Block:
    """The comparisons, readable at 80 columns; `names` are what the table calls the first and the second."""
    first, second = names
    table = grid(title, first, second, f"{second} - {first} [95%]", "lost", "gained", "p", align="<>><>>>")
    for row in rows:
        change = f"{number.signed(row.difference)} {number.signed_interval(row.low, row.high)}"
        if not row.detectable:
            change += f"\n{NO_DIFFERENCE}"
        scores = (number.decimal(row.first.accuracy), number.decimal(row.second.accuracy))
        counts = ("-" if count is None else f"{count:,}" for count in (row.lost, row.gained))
        table.add_row(row.label, *scores, line(change), *counts, "-" if row.p is None else number.p(row.p))
    return table


def contrast_note(rows: Sequence[Contrast]) -> Block:
    """How the rows were compared, and which were not image by image and why."""
    lines: list[str] = []
    if any(row.unpaired is None for row in rows):
        lines += [
            "[95%]: Tango's interval of the difference on the same images, each row alone;",
            "p: mid-p McNemar, which decides;",
            "lost, gained: images that the first column alone, the second alone got right",
        ]
    lines += [f"{row.label.strip()}: {row.told}" for row in rows if row.told]
    reasons = dict.fromkeys(row.unpaired for row in rows if row.unpaired)
    for reason in reasons:
        labels = ", ".join(row.label.strip() for row in rows if row.unpaired == reason)
        lines.append(f"compared unpaired (Newcombe's interval), because of {reason}: {labels}")
    return note("\n".join(lines))
