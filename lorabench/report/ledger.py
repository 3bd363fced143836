"""The ledger: the talk's figures beside ours."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lorabench.analysis.claims import TOLERANCE, K
from lorabench.analysis.inference import FEWEST
from lorabench.report.style import grid, line, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.claims import Row
    from lorabench.report.blocks import Block


_GOOD = ("exact", "rounds to 3%", "reproduced", "runs", "holds", "possible")
_STYLES = dict.fromkeys(_GOOD, "green") | {"not run here": "dim", "no verdict": "dim"}
_MEANINGS = {
    "exact": "counted, and the same",
    "rounds to 3%": "",
    "differs": "counted, and not the same",
    "reproduced": f"all of the 90% interval is within {TOLERANCE} points of the talk's figure",
    "above": "all of the 95% interval is above it",
    "below": "all of the 95% interval is below it",
    "undecided": "neither of these; more seeds would tell",
    "no verdict": f"fewer than {FEWEST} seeds, or all alike: no interval",
    "holds": "by arithmetic",
    "possible": "arithmetic allows it, and a clock decides",
    "no": "by arithmetic it does not hold",
    "runs": "the talk names it without a figure",
    "not run here": f"no run in the talk's setting: LoRA k = {K} on all layers, A from N(0, 1), not scaled; 30% of the "
    "2s and 3s mirrored left to right; measured on the test set",
}


def ledger_table(rows: Sequence[Row]) -> Block:
    """The ledger as a table. Beside what is no mean over seeds stands where it comes from."""
    table = grid("what the talk says", "talk", "here", "", align="<><<")
    for row in rows:
        here = line(row.ours_text)
        if row.note:
            here += line(f"\n{row.source}: {row.note}" if row.ours_text else row.note, "dim")
        table.add_row(row.label, row.talk, here, line(row.verdict, _STYLES.get(row.verdict, "yellow")))
    return table


def ledger_note(rows: Sequence[Row]) -> Block:
    """What the verdicts mean that `rows` have, and where the figures come from."""
    there = {row.verdict for row in rows}
    lines = [f"{verdict}: {meaning}" for verdict, meaning in _MEANINGS.items() if verdict in there and meaning]
    lines += [
        "an accuracy: measured, the mean over seeds [95% interval]",
        "GPT-3: computed, see lorabench scale; quoted: Hu et al. 2021, not measured here",
    ]
    if any(row.key == "cost.peak" and row.value is not None for row in rows):
        lines.append("peak: memory that the process took for training; frozen layers' outputs are kept in it")
    return note("\n".join(textwrap.fill(line, 79, subsequent_indent="  ") for line in lines))
