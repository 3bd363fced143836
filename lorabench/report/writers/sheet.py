"""The report's runs as CSV, for pandas or a spreadsheet: a line for each run, every number as it was measured.

    label,id,stage,method,k,seed,...,fmnist.accuracy,fmnist.flipped.accuracy,before.fmnist.accuracy,settings.lr,...

A column is a field under its full name and in the unit of `run.json`, so accuracies are fractions. `label` is what the
report calls the run's setting: the lines of one label differ in their seed. A run that has no such field leaves the
column empty. Matrices, checks, the environment and hashes are in the JSON.
"""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from typing import Any

from lorabench.analysis.listing import long_fields
from lorabench.analysis.settings import collect
from lorabench.report.writers import Report
from lorabench.runs import Run

_LEFT_OUT = ("checks.", "env.")
_GROUPS = ("mnist", "fmnist", "before", "params", "cost", "parents", "settings", "error")


def write(report: Report) -> str:
    """A head and a line for each run, in their order."""
    runs = report.runs
    labels = {run.id: arm.label for arm in collect(runs).settings for run in arm.runs}
    lines = [{"label": labels.get(run.id, run.label), **fields(run)} for run in runs]
    columns = sorted(dict.fromkeys(column for line in lines for column in line), key=_group)
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _group(column: str) -> int:
    first, dot, _ = column.partition(".")
    return _GROUPS.index(first) if dot and first in _GROUPS else -1


def fields(run: Run) -> dict[str, Any]:
    """Full name to value; None where the run has none."""
    kept = {name: value for name, value in long_fields(run).items() if not name.startswith(_LEFT_OUT)}
    return {name: float(value) if isinstance(value, Fraction) else _text(value) for name, value in kept.items()}


def _text(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
