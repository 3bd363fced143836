"""What `pretrain`, `make-fmnist` and `finetune` end with: at most 15 lines, the last one the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorabench.analysis import number
from lorabench.analysis.class_counts import census_rows
from lorabench.analysis.plain import plain
from lorabench.analysis.single import scores
from lorabench.report.census import census_table
from lorabench.report.fairness import held_out_note
from lorabench.report.single import parameters_line, score_table
from lorabench.report.style import group, heading, line

if TYPE_CHECKING:
    from pathlib import Path

    from lorabench.report.blocks import Block
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
        "census": plain(census_rows(run)) if run.stage == "fmnist" else [],
        "folder": str(folder),
        "next": next_command,
    }


def summary(run: Run, *, cached: bool, folder: Path, next_command: str) -> Block:
    """The closing block of one finished run.

    Args:
        run: finished.
        cached: whether it was there before.
        folder: where it is, as the user should read it.
        next_command: what to type next.
    """
    parts: list[Block] = [heading(run.id, _how(run, cached=cached))]
    if rows := scores(run):
        parts.append(score_table(rows))
    if held_out := held_out_note([run]):
        parts.append(held_out)
    if run.stage == "fmnist":
        parts.append(census_table(census_rows(run)))
        parts.append(line(_fmnist_line(run)))
    if run.params:
        parts.append(line(parameters_line(run)))
    parts.append(line(str(folder)))
    parts.append(line("next  ", "dim") + next_command)
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
