"""Accuracy against k in a terminal: a line for each k, with its 95% t interval, and the base's accuracy across all.

accuracy against k             92            94            96
lora   1  96.10        ┆                                 ├─●─┤
       4  96.40        ┆                                   ├─●──┤
base      92.56        ┆
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from lorabench.inference import FEWEST
from lorabench.report import number
from lorabench.report.arm import SETS
from lorabench.report.layout import note
from lorabench.report.rank import base_accuracy, rank_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lorabench.inference import Estimate
    from lorabench.report.rank import RankSeries
    from lorabench.runs import Run

TITLE = "accuracy against k"
WIDEST = 100
"""Columns of the whole plot at most: a longer axis shows no more."""

_NAMES, _WORD = 16, 26
"""Columns of a series' name at most, and of a long word in it; the rest goes on below, beside its other ranks."""

_UNICODE = {"mean": "●", "bar": "─", "low": "├", "high": "┤", "base": "┆", "beyond": "╌"}
_ASCII = {"mean": "o", "bar": "-", "low": "|", "high": "|", "base": ":", "beyond": "~"}


@dataclass(frozen=True)
class RankPlot:
    """A renderable: `series` of accuracies in percent on one test set; `base` is drawn across all lines.

    An interval so wide that it would flatten the plot runs off its ends.
    """

    series: tuple[RankSeries, ...]
    base: Estimate | None
    test_set: str = "fmnist"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the axis, then a line for each k, then the base's."""
        signs = _ASCII if options.ascii_only else _UNICODE
        folded = [_folded(series.label) for series in self.series]
        longest = max(min(_NAMES, cell_len(series.label)) for series in self.series)
        wide = max(len(TITLE), *(6 + max(longest, cell_len(name)) for names in folded for name in names))
        scale = _scale(self._estimates(), min(options.max_width, WIDEST) - wide - 9)
        yield Text.assemble((TITLE.ljust(wide), "bold"), " " * 9, (scale.axis(), "dim"))
        base = self.base.mean if self.base else None
        for series, names in zip(self.series, folded, strict=True):
            lines = [(str(point.k), point.accuracy.get(self.test_set)) for point in series.points]
            for index in range(max(len(names), len(lines))):
                name = names[index] if index < len(names) else ""
                k, estimate = lines[index] if index < len(lines) else ("", None)
                head = f"{name}{k.rjust(wide - cell_len(name))}"
                yield Text.assemble(head, _value(estimate), scale.line(estimate, base, signs))
        if self.base:
            yield Text.assemble("base".ljust(wide), _value(self.base), scale.line(None, base, signs))

    def _estimates(self) -> list[Estimate]:
        found = [point.accuracy[self.test_set] for series in self.series for point in series.points]
        return [*found, *([self.base] if self.base else [])]


@dataclass(frozen=True)
class _Scale:
    """Where a percentage stands on a line of `columns` characters that shows `low` to `high`."""

    low: float
    high: float
    columns: int

    def column(self, value: float) -> int:
        return round((value - self.low) / (self.high - self.low) * (self.columns - 1))

    def axis(self) -> str:
        """The numbers of the axis, each centred over its column."""
        line = [" "] * self.columns
        step = _step((self.high - self.low) / max(1, self.columns // 9))
        decimals = max(0, -math.floor(math.log10(step)))
        for index in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1):
            text = f"{index * step:.{decimals}f}"
            start = min(max(0, self.column(index * step) - len(text) // 2), self.columns - len(text))
            line[start : start + len(text)] = text
        return "".join(line)

    def line(self, estimate: Estimate | None, base: float | None, signs: dict[str, str]) -> str:
        """The interval and its mean, over the base's mark."""
        line = [" "] * self.columns
        if base is not None:
            line[self.column(base)] = signs["base"]
        if estimate is not None:
            if estimate.low is not None and estimate.high is not None:
                low, high = self.column(estimate.low), self.column(estimate.high)
                for place in range(max(0, low), min(self.columns, high + 1)):
                    line[place] = signs["bar"]
                line[max(0, low)] = signs["low"] if low >= 0 else signs["beyond"]
                line[min(self.columns - 1, high)] = signs["high"] if high < self.columns else signs["beyond"]
            line[self.column(estimate.mean)] = signs["mean"]
        return "".join(line).rstrip()


def _scale(estimates: Sequence[Estimate], columns: int) -> _Scale:
    """Every mean, and every interval as far as it reaches no further out than the means lie apart."""
    means = [estimate.mean for estimate in estimates]
    room = max(max(means) - min(means), 0.5)
    lows = [e.low for e in estimates if e.low is not None]
    highs = [e.high for e in estimates if e.high is not None]
    low = max(min([*means, *lows]), min(means) - room)
    high = min(max([*means, *highs]), max(means) + room)
    slack = max(0.02 * (high - low), 0.05)
    return _Scale(max(low - slack, 0.0), min(high + slack, 100.0), max(columns, 12))


def _step(least: float) -> float:
    """The smallest of 1, 2 and 5, times a power of ten, that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


def _folded(label: str) -> list[str]:
    """The words of `label` on lines of `_NAMES` columns, or of a longer word's."""
    lines = [""]
    for word in (whole[at : at + _WORD] for whole in label.split() for at in range(0, len(whole), _WORD)):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _NAMES:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _value(estimate: Estimate | None) -> str:
    return "         " if estimate is None else f"  {number.decimal(estimate.mean):>5}  "


def rank_plot(runs: Sequence[Run]) -> RenderableType | None:
    """F-MNIST's accuracy against k, for every way to fine-tune that `runs` hold at two ranks or more; or None."""
    series = tuple(one for one in rank_series(runs) if sum("fmnist" in point.accuracy for point in one.points) > 1)
    if not series:
        return None
    counts = sorted({point.accuracy["fmnist"].n for one in series for point in one.points})
    few = f"{number.ranges(counts)} seed{'' if counts == [1] else 's'}: no interval"
    over = few if counts[-1] < FEWEST else f"mean and 95% t interval over {number.ranges(counts)} seeds"
    return Group(RankPlot(series, base_accuracy(runs).get("fmnist")), note(f"{SETS['fmnist']}, %: {over}"))
