"""What is not the same in runs that are compared: config, base, data, code, environment; only the lines that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis.format_setting import shown
from lorabench.report.style import grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.comparison import Setting
    from lorabench.report.blocks import Block


def differing_table(rows: Sequence[Setting], names: Sequence[str]) -> Block:
    """The rows under their kinds; `names` are what the table calls the runs."""
    table = grid("what differs", "", *names, align="<<" + "<" * len(names))
    last = ""
    for row in rows:
        values = [shown(value)[:12] if row.key in ("commit", "weights") else shown(value) for value in row.values]
        table.add_row(row.kind if row.kind != last else "", row.key, *values)
        last = row.kind
    return table
