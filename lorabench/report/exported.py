"""What `export` ends with: the files, what they were compared with, how they are opened, the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorabench.analysis.plain import plain
from lorabench.analysis.quantities import SETS
from lorabench.report.style import grid, group, heading, line

if TYPE_CHECKING:
    from lorabench.exchange import Export
    from lorabench.report.blocks import Block


def exported_data(done: Export, elsewhere: str = "") -> dict[str, Any]:
    """What `exported` shows, as plain data."""
    return {
        "runs": list(done.runs),
        "to": done.to,
        "folder": str(done.folder),
        "files": plain(list(done.files)),
        "compared": plain(list(done.compared)),
        "loads": done.loads,
        "next": done.following + elsewhere,
    }


def exported(done: Export, elsewhere: str = "") -> Block:
    """The closing block of one export: a line for each file and each comparison.

    Args:
        done: finished.
        elsewhere: what the next command needs at its end to find the same runs.
    """
    files = grid("file", "bytes", "sha256", align="<><")
    for file in done.files:
        files.add_row(file.name, f"{file.bytes:,}", file.sha256[:12])
    runs = done.runs[0] if len(done.runs) == 1 else f"{len(done.runs)} runs"
    title = heading(runs, f"to {done.to}" + (", read again and compared" if done.compared else ""))
    parts: list[Block] = [title, files]
    for same in done.compared:
        how = (
            "every byte equal"
            if same.logit_change is None
            else f"{same.flips} labels flipped, largest logit difference {same.logit_change:.1e}"
        )
        parts.append(line(f"{SETS.get(same.name, same.name)}: {same.images:,} images, {how}"))
    parts.append(line("loads ", "dim") + done.loads)
    parts.append(line(str(done.folder)))
    parts.append(line("next  ", "dim") + (done.following + elsewhere))
    return group(*parts)
