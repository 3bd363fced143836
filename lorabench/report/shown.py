"""What `report` shows: the newest study, one run in full, two runs compared, or many folded over their seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.report.arm import records
from lorabench.report.compare import compare, compare_data, compare_report
from lorabench.report.evidence import evidence
from lorabench.report.fairness import held_out_note
from lorabench.report.gate import group_rows, run_rows
from lorabench.report.group_tables import groups_report
from lorabench.report.groups import groups, groups_data
from lorabench.report.overview import study_data, study_report
from lorabench.report.plot import rank_plot
from lorabench.report.single import run_data, run_report
from lorabench.report.style import stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lorabench.report.blocks import Block
    from lorabench.report.gate import GateRow
    from lorabench.runs import Broken, Run, Store


@dataclass(frozen=True)
class Shown:
    """`data` is for programs, `table` for people, `rows` gives what `--fail-on` is asked of.

    `lost` has a line for everything else that was asked for and cannot be read, which no gate passes over.
    """

    runs: Sequence[Run]
    data: dict[str, Any]
    table: Block
    rows: Callable[[], list[GateRow]]
    lost: Sequence[str] = ()


def study_shown(runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> Shown:
    """A study; its gate has a row for the bases and for each way to fine-tune, whose deltas are from the bases."""
    table, known = study_report(runs, bench), records(runs)
    return Shown(runs, study_data(runs, bench), table, lambda: group_rows(runs, groups(runs, bases=known), known))


def runs_shown(
    store: Store, runs: Sequence[Run], *, baseline: Sequence[Run] = (), broken: Sequence[Broken] = ()
) -> Shown:
    """One run in full, two compared, three or more folded; `baseline` comes first and is what the others differ from.

    Raises:
        InputError: predictions are not those that their run wrote.
        UsageError: `baseline` is not one setting, or has no finished run.
    """
    found = list({run.id: run for run in [*baseline, *runs]}.values())
    if len(found) > 2:
        bases = store.bases(found)
        folded = groups(found, baseline={run.id for run in baseline}, bases=bases, broken=broken)
        return Shown(
            found,
            groups_data(folded),
            stack([held_out_note(found), groups_report(folded), rank_plot([*found, *bases.values()])]),
            lambda: group_rows(found, folded, records(found) | bases),
        )
    known = {run.id: evidence(store, run) for run in found}
    if len(found) == 2:
        compared = compare(found[0], found[1], known)
        rows = compared.accuracy
        table = stack([held_out_note(found), compare_report(compared)])
        return Shown(found, compare_data(compared), table, lambda: run_rows(found, rows))
    (run,) = found
    own = known[run.id]
    history = store.history(run)
    table = stack([held_out_note(found), run_report(run, own.predicted, own.labels, history)])
    return Shown(found, run_data(run, own.predicted, own.labels, history), table, lambda: run_rows(found))
