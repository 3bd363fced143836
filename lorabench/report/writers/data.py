"""The report's data as JSON."""

from __future__ import annotations

import json

from lorabench.report.writers import Report


def write(report: Report) -> str:
    """One JSON document."""
    return json.dumps(report.data, indent=1, default=str)
