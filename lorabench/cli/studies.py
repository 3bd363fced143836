"""Commands that make many runs: study, tune, sweep; and bench, which times them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import complete
from lorabench.cli.app import app
from lorabench.cli.options import Device, Training, command, emit
from lorabench.cli.stages import (
    Engine,
    K,
    Workers,
    device_settings,
    dry_run,
    gather,
    load,
    log,
    newest_costs,
    remember,
    result_first,
    run_stages,
    seeds_of,
    workers_of,
)
from lorabench.cli.streams import stderr, stdout
from lorabench.errors import GateError, PartialError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.runner.stages import Stage
    from lorabench.runs import Run


@command(
    app,
    name="study",
    epilog="Exits with 6 if a figure is not what the config's expect: says: percent as 97.74% or 97.74, tolerances in "
    "points, counts as 6248. A figure that nothing measured is none.",
)
def whole_study(
    shared: Training,
    seeds: Annotated[str | None, typer.Option(metavar="0-4", help="One study for each of these seeds.")] = None,
    k: K = None,
    workers: Workers = None,
    engine: Engine = None,
) -> None:
    """Run the talk's whole story for several seeds, then report it."""
    from lorabench.analysis import claims
    from lorabench.analysis.settings import collect
    from lorabench.analysis.study import overview, overview_data
    from lorabench.report.overview import overview_report
    from lorabench.report.writers.terminal import renderable
    from lorabench.runner import engines, stages

    asked = {"study.seeds": seeds_of(shared, seeds), "study.workers": workers_of(workers, engine)}
    loaded = load(shared, {**asked, "finetune.k": k})
    settings = loaded.config
    if k is not None and settings.study.methods:
        raise UsageError("--k: study.methods of the config says every method's rank; change it there")
    todo = stages.study(settings)
    workers = settings.study.workers or min(engines.cores(), sum(stage.kind == "finetune" for stage in todo))
    if shared.dry_run:
        dry_run(todo, loaded, shared, workers)
        return
    done = collect(run_stages(todo, settings, shared, workers=workers, force=todo, engine=engine).values())
    costs = newest_costs(shared)
    found = overview(done, *costs)
    unmet = claims.check(settings.expect, found.ledger or claims.ledger(done, *costs))
    if shared.json:
        emit({"command": "study", **overview_data(found), "unmet": unmet})
    else:
        console = stdout()
        console.print(renderable(overview_report(found, done)))
        console.print(
            f"\n{shared.runs_dir} holds the {len(done)} runs\nnext  lorabench report {done[-1].id}{shared.elsewhere}",
            soft_wrap=True,
        )
    remember(shared, settings.study.name, todo)
    if unmet:
        raise GateError("the study does not give what expect: says\n  " + "\n  ".join(unmet))


@command(app)
def tune(
    shared: Training,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4", help="One fine-tune at each point for each of these; default: 0.")
    ] = None,
    workers: Workers = None,
    engine: Engine = None,
) -> None:
    """Choose each method's learning rate on held-out images; the test set is not looked at."""
    from lorabench import tune as room
    from lorabench.analysis.fairness import grounds
    from lorabench.analysis.plain import plain
    from lorabench.report.sweep import curves_data, curves_table
    from lorabench.report.tables import unequal_note
    from lorabench.report.writers.terminal import renderable
    from lorabench.runner import engines

    asked = {"study.seeds": seeds_of(shared, seeds) or "0", "study.workers": workers_of(workers, engine)}
    loaded = load(shared, asked)
    curves = room.curves(loaded.config)
    todo = room.todo(curves)
    workers = loaded.config.study.workers or engines.cores()
    if shared.dry_run:
        dry_run(todo, loaded, shared, workers)
        return

    def perform(stages: Sequence[Stage]) -> dict[str, Run]:
        return run_stages(stages, loaded.config, shared, workers=workers, force=stages, keep_going=True, engine=engine)

    found, done = room.tune(curves, perform, lambda text: log(shared, text))
    rows, held_out = room.rows(found, done), found[0].config.holdout
    unequal = grounds(done.values())
    if shared.json:
        emit({"command": "tune", "holdout": held_out, "curves": curves_data(rows), "unequal": plain(unequal)})
    else:
        stdout().print(renderable(curves_table(rows, images=held_out, seeds=loaded.config.study.seeds)))
        if warning := unequal_note(unequal):
            stdout().print("", renderable(warning), sep="\n")
        again = f"lorabench report --study {loaded.config.study.name}-tune{shared.elsewhere}"
        stdout().print(f"\nnext  {again}", soft_wrap=True)
    config = loaded.config.model_dump(mode="json")
    remember(shared, f"{loaded.config.study.name}-tune", room.todo(found), kind="tune", config=config)


@command(app)
def sweep(
    shared: Training,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=VALUE,...",
            autocompletion=complete.settings,
            help="An axis: k=1,2,4, lora.lr=1e-3,3e-3, any config key.",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4", help="A fine-tune at each point for each of these.")
    ] = None,
    workers: Workers = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--fail-fast", help="Finish the other points where one fails, or stop.")
    ] = True,
    engine: Engine = None,
) -> None:
    """Fine-tune at every point of a grid of settings, for several seeds; show the means as a table."""
    from lorabench import sweep as room
    from lorabench.analysis import claims
    from lorabench.report import sweep as tables
    from lorabench.report.plot import rank_plot
    from lorabench.report.writers.terminal import renderable
    from lorabench.runner import engines, stages

    asked = {"study.seeds": seeds_of(shared, seeds), "study.workers": workers_of(workers, engine)}
    source = gather(shared, asked)
    given = copy.deepcopy(source.values)
    planned = room.plan(source, grid or [])
    settings, todo = planned.config, planned.todo
    claims.check_keys(settings.expect, planned.loaded.origins)
    workers = settings.study.workers or engines.cores()
    if shared.dry_run:
        expected = room.preview(planned, shared.store, workers, shared.force)
        if shared.json:
            emit({"command": "dry-run", **tables.plan_data(expected), "origins": planned.loaded.origins})
        else:
            stdout().print(renderable(tables.plan_report(expected)))
        return
    results = room.Results(planned, shared.store)
    run_stages(
        todo,
        settings,
        shared,
        workers=workers,
        force=todo,
        keep_going=keep_going,
        engine=engine,
        on_result=results.add,
    )
    found = results.result()
    if shared.json:
        emit({"command": "sweep", **tables.sweep_data(found)})
    else:
        console = stdout()
        console.print(renderable(tables.sweep_report(found)), crop=False)
        runs = [run for stage in todo if (run := stages.cached(stage, shared.store))] if planned.ranks else []
        if picture := rank_plot(runs):
            console.print("", renderable(picture), sep="\n")
        console.print(f"\nnext  lorabench report{shared.elsewhere}", soft_wrap=True)
    axes = {axis.key: list(axis.values) for axis in planned.axes}
    given["sweep"] = {**given.get("sweep", {}), "grid": axes}
    remember(shared, settings.sweep.name, todo, kind="sweep", config=given)
    if found.failures:
        raise PartialError(f"{found.failures} failed")


@command(app)
def bench(
    shared: Device,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METHOD]...", autocompletion=complete.methods, help="Which methods; none: all."),
    ] = None,
    ranks: Annotated[str | None, typer.Option(metavar="K,...", help="LoRA's ranks; default: 1,4,16.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Images per training step.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Turns of every method.")] = 5,
    steps: Annotated[int, typer.Option(min=2, max=10_000, help="Training steps in a turn.")] = 20,
) -> None:
    """Measure what each method costs on this machine: time, memory, latency."""
    if ranks is not None and names and "lora" not in names:
        raise UsageError(f"--ranks {ranks}: they are those of lora, which is not among the methods")
    ranks = ranks or "1,4,16"
    if not all(k.strip().isdecimal() and 1 <= int(k) <= 1024 for k in ranks.split(",")):
        raise UsageError(f"--ranks {ranks}: write whole numbers from 1 to 1024, e.g. 1,4,16")
    settings = device_settings(shared)
    settings = settings.model_copy(update={"threads": settings.threads or 1})
    from lorabench import bench as room
    from lorabench import threads
    from lorabench.cli import progress
    from lorabench.report import costs
    from lorabench.report.writers.terminal import renderable
    from lorabench.runner.session import open_session

    chosen = room.cases(names or [], [int(k) for k in ranks.split(",")])
    with (
        progress.show(stderr(), quiet=shared.quiet) as on_event,
        open_session(shared.store, None, settings, on_event) as session,
        threads.using(session.threads),
    ):
        record = room.record(chosen, batch_size=batch_size, rounds=rounds, steps=steps, device=session.device)
    if shared.json:
        emit({"command": "bench", **record})
    else:
        stdout().print(renderable(costs.costs_table(record)))
    with result_first():
        shared.store.remember_bench(record)
