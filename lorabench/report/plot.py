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
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from lorabench.analysis import number
from lorabench.analysis.groups import RankSeries, base_accuracy, rank_series
from lorabench.analysis.inference import FEWEST, Estimate
from lorabench.analysis.quantities import SETS
from lorabench.report.blocks import Block, Line, Picture, grid, group, line, note
from lorabench.runs import Epoch, Run

LONGEST = 48
"""Characters of a sparkline at most; of a longer curve it shows every second value, or every third, ..."""

_WIDEST, _NAMES = 100, 26
"""Columns of the whole plot and of a series' name at most; the rest of a name goes on below, beside its other ranks."""


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
    for name, values, decimals in (
        ("loss, nats", [epoch.loss for epoch in history], 4),
        ("accuracy, %", [100 * epoch.accuracy for epoch in history], 2),
    ):
        curve = sparkline(values) if len(values) > 1 else ""
        table.add_row(name, f"{values[0]:.{decimals}f}", curve, f"{values[-1]:.{decimals}f}")
    curves = f", over {len(history)} epochs; each curve has a scale of its own"
    return group(table, note(f"on the training images{curves if len(history) > 1 else '; 1 epoch has no curve'}"))


def rank_plot(runs: Sequence[Run]) -> Block | None:
    """F-MNIST's accuracy against k, for every way to fine-tune that `runs` hold at two ranks or more; or None."""
    series = [curve for curve in rank_series(runs) if sum("fmnist" in point.accuracy for point in curve.points) > 1]
    if not series:
        return None
    counts = sorted({point.accuracy["fmnist"].n for curve in series for point in curve.points})
    few = f"{number.ranges(counts)} seed{'' if counts == [1] else 's'}: no interval"
    over = few if counts[-1] < FEWEST else f"mean and 95% t interval over {number.ranges(counts)} seeds"
    picture = Picture(
        partial(_draw, series, base_accuracy(runs).get("fmnist")), f"Accuracy on {SETS['fmnist']} against the rank k."
    )
    return group(picture, note(f"{SETS['fmnist']}, %: {over}"))


def _draw(series: Sequence[RankSeries], base: Estimate | None, columns: int, ascii_only: bool) -> list[Line]:
    """The axis, then a line for each k, then the base's; the base is marked in every line."""
    title = "accuracy against k"
    rows: list[tuple[str, str, Estimate | None]] = []
    for one in series:
        for name, point in itertools.zip_longest(textwrap.wrap(one.label, _NAMES, break_on_hyphens=False), one.points):
            rows.append((name or "", str(point.k) if point else "", point.accuracy.get("fmnist") if point else None))
    estimates = [estimate for *_, estimate in rows if estimate] + ([base] if base else [])
    shown = [end for e in estimates for end in (e.mean, e.low, e.high) if end is not None]
    slack = max(0.02 * (max(shown) - min(shown)), 0.05)
    wide = max(len(title), *(6 + len(name) for name, *_ in rows))
    scale = _Scale(min(shown) - slack, max(shown) + slack, max(min(columns, _WIDEST) - wide - 9, 12))
    drawn = [line(title.ljust(wide + 9), "bold") + line(scale.axis(), "dim")]
    mean, dash, left, right, upright = "o-||:" if ascii_only else "●─├┤┆"
    for name, k, estimate in [*rows, *([("base", "", base)] if base else [])]:
        cells = [" "] * scale.columns
        if base:
            cells[scale.column(base.mean)] = upright
        if estimate and estimate is not base:
            if estimate.low is not None and estimate.high is not None:
                low, high = scale.column(estimate.low), scale.column(estimate.high)
                cells[low : high + 1] = dash * (high + 1 - low)
                cells[low], cells[high] = left, right
            cells[scale.column(estimate.mean)] = mean
        value = f"{number.decimal(estimate.mean):>5}" if estimate else ""
        drawn.append(line(f"{name}{k.rjust(wide - len(name))}  {value:5}  {''.join(cells).rstrip()}"))
    return drawn


class _Scale(NamedTuple):
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
