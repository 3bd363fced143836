"""What `report` shows: the newest study, one run in full, two runs compared, or many folded over their seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorabench import sweep, tune
from lorabench.analysis.comparison import compare, compare_data
from lorabench.analysis.gates import GateRow, group_rows, run_rows
from lorabench.analysis.groups import groups, groups_data
from lorabench.analysis.paired import predictions_of, seen_by
from lorabench.analysis.settings import beside, collect, records
from lorabench.analysis.single import run_data
from lorabench.analysis.study import overview, overview_data
from lorabench.config import Source, check
from lorabench.errors import ConfigError, UsageError
from lorabench.report.blocks import Block, Document, Line, stack
from lorabench.report.detail import compare_report, run_report
from lorabench.report.groups import groups_report
from lorabench.report.overview import overview_report
from lorabench.report.plot import rank_plot
from lorabench.report.sweep import curves_data, curves_table, sweep_data, sweep_report
from lorabench.report.tables import held_out_note, introduced
from lorabench.runs import Broken, Run, Store, Study


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


def study_shown(
    runs: Sequence[Run], bench: Mapping[str, Any] | None = None, measurement: Mapping[str, Any] | None = None
) -> Shown:
    """A study; its gate has a row for the bases and for each way to fine-tune, whose deltas are from the bases."""
    collected = collect(runs)
    study = overview(collected, bench, measurement)
    return Shown(collected, overview_data(study), overview_report(study, collected), lambda: _study_rows(collected))


def as_it_was(study: Study | None, store: Store, shown: Shown) -> Shown:
    """A sweep or a tuning again as its command showed it, if its note has the settings that its runs were asked by."""
    if not study or not study.config:
        return shown
    try:
        if study.kind == "sweep":
            planned = sweep.plan(Source(study.config))
            result = sweep.recalled(planned, store)
            table, data = sweep_report(result), sweep_data(result)
            plot = rank_plot(shown.runs) if planned.ranks else None
        else:
            curves, done = tune.recalled(check(Source(study.config)).config, store)
            rows, first, plot = tune.rows(curves, done), curves[0].config, None
            table = curves_table(rows, images=first.holdout, seeds=first.study.seeds)
            data: dict[str, Any] = {"holdout": first.holdout, "curves": curves_data(rows)}
    except (ConfigError, UsageError):  # of an earlier lorabench, or edited
        return shown
    return replace(
        shown, table=stack([introduced(shown.runs, store), table, plot]), data={**shown.data, study.kind: data}
    )


def _study_rows(runs: Sequence[Run]) -> list[GateRow]:
    measured = beside(runs)
    return group_rows(measured, groups(measured, bases=measured.records), measured.records)


def runs_shown(
    store: Store, runs: Sequence[Run], *, baseline: Sequence[Run] = (), broken: Sequence[Broken] = ()
) -> Shown:
    """One run in full, two compared, three or more folded; `baseline` comes first and is what the others differ from.

    Raises:
        InputError: predictions are not those that their run wrote.
        UsageError: `baseline` is not one setting, or has no finished run.
    """
    named = list({run.id: run for run in [*baseline, *runs]}.values())
    measured = beside(named)
    if len(measured) > 2:
        bases = store.parents(measured)
        folded = groups(measured, baseline={run.id for run in baseline}, bases=bases, broken=broken)
        return Shown(
            measured,
            groups_data(folded),
            stack([_headed(groups_report(folded), measured, store), rank_plot([*measured, *bases.values()])]),
            lambda: group_rows(measured, folded, records(measured) | bases),
        )
    known = {run.id: predictions_of(store, run) for run in named}
    known |= {
        run.id: seen_by(known[other.id])
        for run, own in zip(measured, named, strict=True)
        for other in measured
        if run is not own and other.parents.base == run.id
    }
    if len(measured) == 2:
        compared = compare(measured[0], measured[1], known)
        rows = compared.accuracy
        table = _headed(compare_report(compared), measured, store)
        return Shown(measured, compare_data(compared), table, lambda: run_rows(measured, rows))
    (run,) = measured
    own = known[run.id]
    history = store.history(run)
    table = _headed(run_report(run, own.predicted, own.labels, history), measured, store)
    return Shown(measured, run_data(run, own.predicted, own.labels, history), table, lambda: run_rows(measured))


def _headed(report: Document, runs: Sequence[Run], store: Store) -> Block:
    """The report with what its numbers are of, below its title if it has one."""
    titled = isinstance(report.parts[0], Line) and report.parts[0].kind == "heading"
    title, rest = report.parts[:titled], report.parts[titled:]
    return stack([*title, introduced(runs, store), held_out_note(runs), *rest])
