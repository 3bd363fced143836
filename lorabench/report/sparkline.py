"""A run's training in a line for each curve: `loss, nats   1.6543 █▅▃▂▁ 0.1204`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.measure import Measurement
from rich.text import Text

from lorabench.report.layout import grid, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lorabench.runs import Epoch

LONGEST = 48
"""Characters of a sparkline at most; each of a longer curve's stands for the mean of several epochs."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-:=+*#"


@dataclass(frozen=True)
class Sparkline:
    """A renderable: one character for each value, from the lowest block for the least to the full one."""

    values: tuple[float, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the line."""
        yield Text(sparkline(self.values, _ASCII if options.ascii_only else _BLOCKS))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as it is long."""
        wide = min(len(self.values), LONGEST)
        return Measurement(wide, wide)


def sparkline(values: Sequence[float], blocks: str = _BLOCKS) -> str:
    """`values` as characters between the first of `blocks`, for the least, and the last, for the greatest."""
    kept = _thinned(values)
    low, high = min(kept), max(kept)
    span = (high - low) or 1.0
    return "".join(blocks[round((value - low) / span * (len(blocks) - 1))] for value in kept)


def _thinned(values: Sequence[float]) -> list[float]:
    """At most `LONGEST` means of consecutive values, all of nearly as many."""
    count = min(len(values), LONGEST)
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def training_table(history: Sequence[Epoch]) -> RenderableType | None:
    """Loss and accuracy on the training images, epoch by epoch, the first and the last written out; or None."""
    if not history:
        return None
    table = grid("training", "first", "", "last", align="<><>")
    losses, accuracies = [e.loss for e in history], [100 * e.accuracy for e in history]
    for name, values, decimals in (("loss, nats", losses, 4), ("accuracy, %", accuracies, 2)):
        first, last = (f"{value:.{decimals}f}" for value in (values[0], values[-1]))
        table.add_row(name, first, Sparkline(tuple(values)) if len(values) > 1 else "", last)
    if len(history) == 1:
        return Group(table, note("on the training images; 1 epoch has no curve"))
    return Group(table, note(f"on the training images, over {len(history)} epochs; each curve has a scale of its own"))
