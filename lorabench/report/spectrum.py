"""How far, and in how many directions, a fine-tune moved each weight matrix: ΔW = W1 − W0, as the run recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.report.style import grid, group, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.spectrum import SpectrumRow
    from lorabench.report.blocks import Block


def spectrum_table(rows: Sequence[SpectrumRow]) -> Block:
    """The rows as a table."""
    table = grid("change of the weights", "Frobenius norm", "stable rank", "rank at 90%", align="<>>>")
    for row in rows:
        table.add_row(row.layer, f"{row.frobenius:.3f}", f"{row.stable_rank:.2f}", f"{row.rank90}")
    return group(table, note("rank at 90%: how many singular directions hold 90% of the squared norm"))
