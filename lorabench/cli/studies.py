"""Commands that make many runs: study, tune, sweep; and bench, which times them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import complete
from lorabench.cli.options import Device, Training, command
from lorabench.cli.stages import (
    Engine,
    K,
    Workers,
    answer,
    asked,
    checked,
    device_settings,
    dry_run,
    gather,
    log,
    newest_costs,
    of_methods,
    opened,
    remember,
    reporting,
    result_first,
    run_stages,
    study_plan,
)
from lorabench.errors import GateError, PartialError, UsageError

if TYPE_CHECKING:
    from lorabench.report.blocks import Block
    from lorabench.runner.stages import Stage
    from lorabench.runs import Run


@command(
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
    given = asked(shared, seeds, workers, engine) | {"finetune.k": k}
    loaded, todo, workers = study_plan(gather(shared, given))
    settings = loaded.config
    if shared.dry_run:
        dry_run(todo, loaded, shared, workers)
        return
    runs = run_stages(todo, settings, shared, workers=workers, force=todo, engine=engine).values()

    # Not before the training has begun, which need not wait for them.
    from lorabench.analysis import claims
    from lorabench.analysis.settings import collect
    from lorabench.analysis.study import overview, overview_data
    from lorabench.report.blocks import line, stack
    from lorabench.report.overview import overview_report

    done, costs = collect(runs), newest_costs(shared)
    shown = overview(done, *costs)
    unmet = claims.check(settings.expect, shown.ledger or claims.ledger(done, *costs))
    answer(
        shared,
        "study",
        lambda: {**overview_data(shown), "unmet": unmet},
        lambda: stack([overview_report(shown, done), line(f"the folder {shared.runs_dir} holds the {len(done)} runs")]),
        shared.following("report", done[-1].id),
    )
    remember(shared, settings.study.name, todo)
    if unmet:
        raise GateError("the study does not give what expect: says", *(f"  {each}" for each in unmet))


@command()
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
    from lorabench.analysis.number import plain
    from lorabench.report.blocks import stack
    from lorabench.report.sweep import curves_data, curves_table
    from lorabench.report.tables import introduced, unequal_note
    from lorabench.runner import engines

    given = asked(shared, seeds, workers, engine)
    source = gather(shared, {**given, "study.seeds": given["study.seeds"] or "0"})
    if not given["study.seeds"]:
        source.places["study", "seeds"] = "the command"
    if ("finetune", "lr") in source.options:
        raise UsageError(f"{source.places['finetune', 'lr']}: tune tries learning rates of its own")
    loaded = of_methods(source)
    curves = room.curves(loaded.config)
    todo = room.todo(curves)
    workers = loaded.config.study.workers or engines.cores()
    if shared.dry_run:
        dry_run(todo, loaded, shared, workers)
        return

    def perform(stages: Sequence[Stage]) -> dict[str, Run]:
        return run_stages(stages, loaded.config, shared, workers=workers, force=stages, keep_going=True, engine=engine)

    best, done = room.tune(curves, perform, lambda text: log(shared, text))
    rows, held_out = room.rows(best, done), best[0].config.holdout
    unequal = grounds(done.values())
    seeds_shown, name = loaded.config.study.seeds, f"{loaded.config.study.name}-tune"
    answer(
        shared,
        "tune",
        lambda: {"holdout": held_out, "curves": curves_data(rows), "unequal": plain(unequal)},
        lambda: stack(
            [
                introduced(done.values(), shared.store),
                curves_table(rows, images=held_out, seeds=seeds_shown),
                unequal_note(unequal),
            ]
        ),
        shared.following("report", "--study", name),
    )
    remember(shared, name, room.todo(best), kind="tune", config=loaded.config.model_dump(mode="json"))


@command()
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
    from lorabench.report import sweep as tables
    from lorabench.report.blocks import stack
    from lorabench.report.plot import rank_plot
    from lorabench.report.tables import introduced
    from lorabench.runner import engines, stages

    source = gather(shared, asked(shared, seeds, workers, engine))
    given = copy.deepcopy(source.values)
    planned = room.plan(source, grid or [])
    settings, todo = checked(planned.loaded).config, planned.todo
    workers = settings.study.workers or engines.cores()
    if shared.dry_run:
        expected = room.preview(planned, shared.store, workers, shared.force)
        origins = planned.loaded.origins
        document = functools.partial(tables.plan_report, expected)
        answer(shared, "dry-run", lambda: {**tables.plan_data(expected), "origins": origins}, document)
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
    result = results.result()

    def document() -> Block:
        runs = [run for stage in todo if (run := stages.cached(stage, shared.store))]
        plot = rank_plot(runs) if planned.ranks else None
        return stack([introduced(runs, shared.store), tables.sweep_report(result), plot])

    answer(shared, "sweep", lambda: tables.sweep_data(result), document, shared.following("report"))
    axes = {axis.key: list(axis.values) for axis in planned.axes}
    given["sweep"] = {**given.get("sweep", {}), "grid": axes}
    remember(shared, settings.sweep.name, todo, kind="sweep", config=given)
    if result.failures:
        raise PartialError(f"{result.failures} failed")


@command()
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
    from lorabench.report import costs

    chosen = room.cases(names or [], [int(k) for k in ranks.split(",")])
    with opened(shared, settings) as session, threads.using(session.threads):
        record = room.record(chosen, batch_size=batch_size, rounds=rounds, steps=steps, device=session.device)
    answer(shared, "bench", lambda: record, lambda: costs.costs_table(record), reporting(shared))
    with result_first():
        shared.store.remember_bench(record)
