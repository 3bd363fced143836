"""Two classifiers on the same images, compared image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from lorabench import stats
from lorabench.report import number
from lorabench.report.accuracy import NO_DIFFERENCE
from lorabench.report.arm import SETS
from lorabench.report.layout import grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from rich.console import RenderableType

    Digits = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Paired:
    """Second − first on one test set, in points, with its 95% score interval.

    `lost` images only the first got right, `gained` only the second; `p` is of the exact McNemar test.
    """

    set: str
    n: int
    lost: int
    gained: int
    difference: float
    low: float
    high: float
    p: float

    @property
    def detectable(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


def pair(first: Mapping[str, Digits], second: Mapping[str, Digits], labels: Digits) -> list[Paired]:
    """A comparison for each test set that both have predictions for.

    Args:
        first: test set to predicted digits (n,), image by image in the order of `labels`.
        second: the same of the other classifier.
        labels: true digits (n,).
    """
    return [
        _paired(name, first[name] == labels, second[name] == labels)
        for name in SETS
        if name in first and name in second
    ]


def _paired(name: str, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Paired:
    n, lost, gained = len(first), int((first & ~second).sum()), int((~first & second).sum())
    low, high = stats.paired_difference(lost, gained, n)
    p = stats.mcnemar_exact(lost, gained)
    return Paired(name, n, lost, gained, 100 * (gained - lost) / n, 100 * low, 100 * high, p)


def paired_table(rows: Sequence[Paired], names: tuple[str, str]) -> RenderableType:
    """The comparisons as a table; `names` are what it calls the first and the second."""
    first, second = names
    table = grid(
        "same images",
        f"{second} - {first} [95% interval]",
        f"only {first}",
        f"only {second}",
        "",
        align="<<>><",
    )
    for row in rows:
        text = f"{number.signed(row.difference)} {number.signed_interval(row.low, row.high)}"
        p = Text(number.p_value(row.p))
        if not row.detectable:
            text += f"\n{NO_DIFFERENCE}"
        table.add_row(SETS[row.set], text, f"{row.lost:,}", f"{row.gained:,}", p)
    return table
