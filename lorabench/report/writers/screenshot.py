"""The report as an SVG picture of a terminal in colour."""

from __future__ import annotations

from lorabench.report.writers import Report, terminal


def write(report: Report) -> str:
    """The picture."""
    return terminal.recorded(report.document, color=True).export_svg(title="lorabench report")
