"""How a command ends: a stage with at most 15 lines, an export, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorabench.analysis import number
from lorabench.analysis.number import plain
from lorabench.analysis.quantities import SETS
from lorabench.analysis.single import class_counts, scores
from lorabench.exchange import Export
from lorabench.report.blocks import Block, grid, group, heading, line, note
from lorabench.report.figures import Outcome
from lorabench.report.single import parameters_line, score_table
from lorabench.report.tables import class_counts_table, held_out_note
from lorabench.runs import Run


def summary_data(run: Run, *, cached: bool, folder: Path, next_command: str) -> dict[str, Any]:
    """What `summary` shows, as plain data."""
    return {
        "id": run.id,
        "cached": cached,
        "accuracy": plain(scores(run)),
        "params": plain(run.params.model_dump()) if run.params else None,
        "checkpoint_bytes": run.checkpoint_bytes,
        "cost": run.cost.model_dump() if run.cost else None,
        "census": plain(class_counts(run)) if run.stage == "fmnist" else [],
        "folder": str(folder),
        "next": next_command,
    }


def summary(run: Run, *, cached: bool, folder: Path) -> Block:
    """The closing block of one finished run.

    Args:
        run: finished.
        cached: whether it was there before.
        folder: where it is, as the user should read it.
    """
    parts: list[Block] = [heading(run.id, _how(run, cached=cached))]
    if rows := scores(run):
        parts.append(score_table(rows))
    if held_out := held_out_note([run]):
        parts.append(held_out)
    if run.stage == "fmnist":
        from lorabench.data import shifts

        parts.append(class_counts_table(class_counts(run), shifts.named(run.settings).word))
        parts.append(line(_fmnist_line(run)))
    if run.params:
        parts.append(line(parameters_line(run)))
    parts.append(line(str(folder)))
    return group(*parts)


def _how(run: Run, *, cached: bool) -> str:
    if cached:
        return "there already, not run again"
    if run.cost is None:
        return "done"
    return f"ran {number.seconds(run.cost.train_s)}, {run.cost.images_per_s:,.0f} images/s"


def _fmnist_line(run: Run) -> str:
    # How many images of which digits stands in the table above.
    asked = [f"{key} {value}" for key, value in run.settings.items() if key not in {"fraction", "classes"}]
    hashes = ", ".join(f"{split} {counts['sha256'][:12]}" for split, counts in run.checks.items())
    return ", ".join([*asked, f"sha256 {hashes}"])


def export_data(done: Export) -> dict[str, Any]:
    """What `export_summary` shows, as plain data."""
    return {
        "runs": list(done.runs),
        "to": done.to,
        "folder": str(done.folder),
        "files": plain(list(done.files)),
        "compared": plain(list(done.compared)),
        "loads": done.loads,
    }


def export_summary(done: Export) -> Block:
    """How an export ends: a line for each file and each comparison, how it is opened, where it is."""
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
    parts.append(replace(line("loads ", "dim") + done.loads, folds=False))  # code, to be pasted
    parts.append(line(str(done.folder)))
    return group(*parts)


def figures_written(outcomes: Sequence[Outcome]) -> Block:
    """How `report --figures` ends: a line for each file, then one for each figure that there is none of."""
    lines: list[Block] = [line("figures", "bold")]
    lines += [line(str(file)) for outcome in outcomes for file in outcome.files]
    lines += [note(f"no {outcome.name}: it needs {outcome.missing}") for outcome in outcomes if outcome.missing]
    return group(*lines)


def figures_data(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [
        {"name": o.name, "title": o.title, "files": [str(file) for file in o.files], "missing": o.missing}
        for o in outcomes
    ]
