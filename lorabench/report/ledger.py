"""The ledger: the talk's figures beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from lorabench.report.arm import arms, main_arm
from lorabench.report.layout import grid, note
from lorabench.report.parameters import base_run
from lorabench.report.talk import ROWS, TOLERANCE, Study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from lorabench.report.talk import Row
    from lorabench.runs import Run

_STYLES = {"exact": "green", "reproduced": "green", "better": "green", "runs": "green", "open": "dim"} | {
    "holds": "green",
    "possible": "green",
}


def ledger(study_runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> list[Row]:
    """A row for every figure of the talk. `study_runs` holds the study's runs with their parents."""
    found = arms(study_runs)
    lora = main_arm([arm for arm in found if arm.method == "lora"])
    made = [run for run in study_runs if run.stage == "fmnist" and run.status == "done"]
    own = [run for run in made if lora and run.id == lora.recipe["data"]]
    study = Study(
        runs=study_runs,
        bench=bench,
        base=base_run(study_runs),
        fmnist=next(iter(own or made), None),
        arms=found,
        lora=lora,
    )
    return [row(study) for row in ROWS]


def ledger_table(rows: Sequence[Row]) -> RenderableType:
    """The ledger as a table."""
    table = grid("what the talk says", "talk", "here", "", align="<><<")
    for row in rows:
        here = Text(row.ours_text)
        if row.note:
            here.append(f"\n{row.note}" if row.ours_text else row.note, "dim")
        table.add_row(row.label, row.talk, here, Text(row.verdict, _STYLES.get(row.verdict, "yellow")))
    return table


def ledger_note() -> RenderableType:
    """What the verdicts mean."""
    return note(
        f"exact: counted; reproduced: within {TOLERANCE} points; better, lower: further off\n"
        "GPT-3: by arithmetic, see lorabench scale; this classifier's: measured"
    )
