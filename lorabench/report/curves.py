"""The learning-rate curves of `tune`: a row for each method, the best marked, and the lines to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.analysis.plain import plain
from lorabench.report.style import grid, group, line, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.report.blocks import Block, Line
    from lorabench.tune import CurveRow


def curves_table(rows: Sequence[CurveRow], *, images: int, seeds: Sequence[int]) -> Block:
    """The curves, readable at 80 columns, and YAML with each method's best."""
    lrs = sorted({lr for row in rows for lr in row.lrs})
    table = grid("learning rate", *(f"{lr:g}".replace("e-0", "e-") for lr in lrs), align="<" + ">" * len(lrs))
    table.gap = 1
    for row in rows:
        found = dict(zip(row.lrs, row.accuracy, strict=True))
        table.add_row(row.label, *(_cell(found[lr], best=lr == row.best) if lr in found else "" for lr in lrs))
    what = f"F-MNIST, % of {images:,} held-out images, {number.seeds(len(seeds))}: {number.ranges(seeds)}"
    edges = [row.label for row in rows if row.edge]
    notes = [f"{what}; *: the best, x: training failed"]
    notes += [f"still the best at the edge of what was tried: {', '.join(edges)}"] if edges else []
    return stack([group(table, note("\n".join(notes))), line(yaml_lines(rows))])


def curves_data(rows: Sequence[CurveRow]) -> list[dict[str, object]]:
    """The curves as plain data."""
    return [{**plain(row), "edge": row.edge} for row in rows]


def yaml_lines(rows: Sequence[CurveRow]) -> str:
    """Each method with its best learning rate, as `study.methods` takes it."""
    lines = ["study:", "  methods:"]
    for row in rows:
        given = {**row.entry, "lr": f"{row.best:g}"} if row.best is not None else row.entry
        lines.append(f"    - {{{', '.join(f'{key}: {value}' for key, value in given.items())}}}")
    return "\n".join(lines)


def _cell(value: float | None, *, best: bool) -> Line:
    if value is None:
        return line("x", "dim")
    return line(f"{value:.1f}*" if best else f"{value:.1f} ", "bold" if best else "")
