"""What `report --figures` ends with: which files were written, and which figures were not drawn, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from lorabench.report.layout import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from lorabench.report.figures import Outcome


def drawn(outcomes: Sequence[Outcome]) -> RenderableType:
    """A line for each file, then one for each figure that there is none of."""
    lines: list[RenderableType] = [Text("figures", "bold")]
    lines += [Text(str(file), overflow="fold") for outcome in outcomes for file in outcome.files]
    lines += [note(f"no {outcome.name}: it needs {outcome.missing}") for outcome in outcomes if outcome.missing]
    return Group(*lines)


def drawn_data(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [
        {"name": o.name, "title": o.title, "files": [str(file) for file in o.files], "missing": o.missing}
        for o in outcomes
    ]
