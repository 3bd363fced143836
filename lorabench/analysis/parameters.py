"""How many parameters each way to fine-tune trains, and what it has to store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.settings import Setting
    from lorabench.runs import Run


@dataclass(frozen=True)
class SizeRow:
    """Numbers of parameters; `share` is the trainable ones in percent of the base's."""

    label: str
    total: int
    trainable: int
    share: float | None
    checkpoint_bytes: int | None


def base_run(runs: Sequence[Run]) -> Run | None:
    """The first finished pretrain run: every base has the same architecture."""
    return next((run for run in runs if run.stage == "pretrain" and run.status == "done" and run.params), None)


def size_row(label: str, run: Run, base: Run | None) -> SizeRow | None:
    """The sizes of one run; None if it did not come as far as to record them."""
    if run.params is None:
        return None
    total = base.params.total if base and base.params else None
    share = 100 * run.params.trainable / total if total else None
    return SizeRow(label, run.params.total, run.params.trainable, share, run.checkpoint_bytes)


def size_rows(runs: Sequence[Run], settings: Sequence[Setting]) -> list[SizeRow]:
    """The base, then each setting."""
    base = base_run(runs)
    named = [("base", base)] if base else []
    named += [(setting.label, setting.runs[0]) for setting in settings]
    return [row for label, run in named if (row := size_row(label, run, base))]
