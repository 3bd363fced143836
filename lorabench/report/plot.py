"""Pictures of characters: a run's training in a line for each curve, and accuracy against k.

accuracy against k             92            94            96
lora   1  96.10        ┆                                 ├─●─┤
       4  96.40        ┆                                   ├─●──┤
base      92.56        ┆
"""

from __future__ import annotations

import itertools
import math
import textwrap
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.analysis.inference import FEWEST
from lorabench.analysis.quantities import SETS
from lorabench.analysis.rank import base_accuracy, rank_series
from lorabench.report.blocks import Picture
from lorabench.report.style import grid, group, line, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.inference import Estimate
    from lorabench.analysis.rank import RankSeries
    from lorabench.report.blocks import Block, Line
    from lorabench.runs import Epoch, Run

LONGEST = 48
"""Characters of a sparkline at most; of a longer curve it shows every second value, or every third, ..."""

TITLE = "accuracy against k"
WIDEST = 100
"""Columns of the whole plot at most: a longer axis shows no more."""

_NAMES, _WORD = 16, 26
"""Columns of a series' name at most, and of a long word in it; the rest goes on below, beside its other ranks."""

_UNICODE, _ASCII = "●─├┤┆╌", "o-||:~"
"""A mean, its interval and the interval's ends, the base, and in place of an end one that lies beyond the plot."""


def sparkline(values: Sequence[float]) -> str:
    """`values` as blocks, the lowest for the least and the full one for the greatest."""
    kept = values[:: math.ceil(len(values) / LONGEST)]
    low, span = min(kept), max(kept) - min(kept)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / (span or 1.0))] for value in kept)


def training_table(history: Sequence[Epoch]) -> Block | None:
    """Loss and accuracy on the training images, epoch by epoch, the first and the last written out; or None."""
    if not history:
        return None
    table = grid("training", "first", "", "last", align="<><>")
    losses, accuracies = [e.loss for e in history], [100 * e.accuracy for e in history]
    for name, values, decimals in (("loss, nats", losses, 4), ("accuracy, %", accuracies, 2)):
        first, last = (f"{value:.{decimals}f}" for value in (values[0], values[-1]))
        table.add_row(name, first, sparkline(values) if len(values) > 1 else "", last)
    if len(history) == 1:
        return group(table, note("on the training images; 1 epoch has no curve"))
    return group(table, note(f"on the training images, over {len(history)} epochs; each curve has a scale of its own"))


def rank_plot(runs: Sequence[Run]) -> Block | None:
    """F-MNIST's accuracy against k, for every way to fine-tune that `runs` hold at two ranks or more; or None."""
    series = [one for one in rank_series(runs) if sum("fmnist" in point.accuracy for point in one.points) > 1]
    if not series:
        return None
    counts = sorted({point.accuracy["fmnist"].n for one in series for point in one.points})
    few = f"{number.ranges(counts)} seed{'' if counts == [1] else 's'}: no interval"
    over = few if counts[-1] < FEWEST else f"mean and 95% t interval over {number.ranges(counts)} seeds"
    picture = Picture(partial(_draw, series, base_accuracy(runs).get("fmnist")))
    return group(picture, note(f"{SETS['fmnist']}, %: {over}"))


def _draw(series: Sequence[RankSeries], base: Estimate | None, columns: int, ascii_only: bool) -> list[Line]:
    """The axis, then a line for each k, then the base's."""
    rows: list[tuple[str, str, Estimate | None]] = []
    for one in series:
        for name, point in itertools.zip_longest(_folded(one.label), one.points):
            rows.append((name or "", str(point.k) if point else "", point.accuracy.get("fmnist") if point else None))
    estimates = [estimate for *_, estimate in rows if estimate]
    wide = max(len(TITLE), *(6 + len(name) for name, *_ in rows))
    scale = _scale([*estimates, *([base] if base else [])], min(columns, WIDEST) - wide - 9)
    signs = _ASCII if ascii_only else _UNICODE
    rows += [("base", "", base)] if base else []
    drawn = [line(TITLE.ljust(wide + 9), "bold") + line(scale.axis(), "dim")]
    for name, k, estimate in rows:
        value = f"{number.decimal(estimate.mean):>5}" if estimate else ""
        bar = scale.bar(None if estimate is base else estimate, base, signs)
        drawn.append(line(f"{name}{k.rjust(wide - len(name))}  {value:5}  {bar}"))
    return drawn


def _folded(label: str) -> list[str]:
    """The words of `label` on lines of `_NAMES` columns, or of a longer word's."""
    words = [part for word in label.split() for part in textwrap.wrap(word, _WORD, break_on_hyphens=False)]
    return textwrap.wrap(" ".join(words), _NAMES, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class _Scale:
    """Where a percentage stands on a line of `columns` characters that shows `low` to `high`."""

    low: float
    high: float
    columns: int

    def column(self, value: float) -> int:
        return round((value - self.low) / (self.high - self.low) * (self.columns - 1))

    def axis(self) -> str:
        """The numbers of the axis, each centred over its column: multiples of 1, 2 or 5 times a power of ten."""
        cells = [" "] * self.columns
        least = (self.high - self.low) / max(1, self.columns // 9)
        power = 10.0 ** math.floor(math.log10(least))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
        decimals = max(0, -math.floor(math.log10(step)))
        for index in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1):
            text = f"{index * step:.{decimals}f}"
            start = min(max(0, self.column(index * step) - len(text) // 2), self.columns - len(text))
            cells[start : start + len(text)] = text
        return "".join(cells)

    def bar(self, estimate: Estimate | None, base: Estimate | None, signs: str) -> str:
        """The interval and its mean, over the base's mark; an interval may run off the ends."""
        mean, dash, left, right, upright, beyond = signs
        cells = [" "] * self.columns
        if base is not None:
            cells[self.column(base.mean)] = upright
        if estimate is not None:
            if estimate.low is not None and estimate.high is not None:
                low, high = self.column(estimate.low), self.column(estimate.high)
                first, last = max(0, low), min(self.columns - 1, high)
                cells[first : last + 1] = dash * (last + 1 - first)
                cells[first] = left if first == low else beyond
                cells[last] = right if last == high else beyond
            cells[self.column(estimate.mean)] = mean
        return "".join(cells).rstrip()


def _scale(estimates: Sequence[Estimate], columns: int) -> _Scale:
    """Every mean, and every interval as far as it reaches no further out than the means lie apart."""
    means = [estimate.mean for estimate in estimates]
    room = max(max(means) - min(means), 0.5)
    low = max(min([*means, *(e.low for e in estimates if e.low is not None)]), min(means) - room)
    high = min(max([*means, *(e.high for e in estimates if e.high is not None)]), max(means) + room)
    slack = max(0.02 * (high - low), 0.05)
    return _Scale(max(low - slack, 0.0), min(high + slack, 100.0), max(columns, 12))
