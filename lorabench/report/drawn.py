"""What `report --figures` ends with: which files were written, and which figures were not drawn, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorabench.report.style import group, line, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.report.blocks import Block
    from lorabench.report.figures import Outcome


def drawn(outcomes: Sequence[Outcome]) -> Block:
    """A line for each file, then one for each figure that there is none of."""
    lines: list[Block] = [line("figures", "bold")]
    lines += [line(str(file)) for outcome in outcomes for file in outcome.files]
    lines += [note(f"no {outcome.name}: it needs {outcome.missing}") for outcome in outcomes if outcome.missing]
    return group(*lines)


def drawn_data(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [
        {"name": o.name, "title": o.title, "files": [str(file) for file in o.files], "missing": o.missing}
        for o in outcomes
    ]
