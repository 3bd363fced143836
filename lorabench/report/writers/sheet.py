"""The report's runs as CSV, for pandas or a spreadsheet: a line for each run, every number as it was measured.

    label,id,stage,method,k,seed,...,fmnist.accuracy,fmnist.flipped.accuracy,before.fmnist.accuracy,settings.lr,...

A column is a field of `run.json` under its dotted name and in its unit, so accuracies are fractions; `metrics.` and
`slices.` are left out of the names. `label` is what the report calls the run's setting: the lines of one label differ
in their seed. A run that has no such field leaves the column empty. Matrices, checks and hashes are in the JSON.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from lorabench.analysis.format_setting import flatten
from lorabench.analysis.settings import arms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabench.report.writers import Report
    from lorabench.runs import Metrics, Run

_GROUPS = ("mnist", "fmnist", "before", "params", "cost", "parents", "settings", "error")


def write(report: Report) -> str:
    """A head and a line for each run, in their order."""
    runs = report.runs
    labels = {run.id: arm.label for arm in arms(runs) for run in arm.runs}
    lines = [{"label": labels.get(run.id, run.label), **fields(run)} for run in runs]
    columns = sorted(dict.fromkeys(column for line in lines for column in line), key=_group)
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _group(column: str) -> int:
    first, dot, _ = column.partition(".")
    return _GROUPS.index(first) if dot else -1


def fields(run: Run) -> dict[str, Any]:
    """Dotted name to value; None where the run has none."""
    record = run.model_dump(
        include={"id", "stage", "method", "k", "seed", "study", "status", "started", "ended", "checkpoint_bytes"}
    )
    nested = {
        **_metrics(run.metrics),
        "before": _metrics(run.before),
        "params": run.params.model_dump() if run.params else {},
        "cost": run.cost.model_dump() if run.cost else {},
        "parents": run.parents.model_dump(),
        "settings": run.settings,
        "error": run.error.model_dump() if run.error else {},
    }
    flat = flatten(nested)
    return {**record, **{key: json.dumps(value) if isinstance(value, list) else value for key, value in flat.items()}}


def _metrics(found: Mapping[str, Metrics]) -> dict[str, Any]:
    return {
        name: metrics.model_dump(exclude={"confusion", "slices"})
        | {part: counts.model_dump() for part, counts in metrics.slices.items()}
        for name, metrics in found.items()
    }
