"""The command line: parse, call, print. `lorabench --help` lists the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lorabench import __version__
from lorabench import export as exporting
from lorabench.errors import GateError, InputError, PartialError, UsageError
from lorabench.options import Shared, as_json, command, emit, report_failure, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lorabench.config import Config, Loaded, Source
    from lorabench.report import Shown
    from lorabench.report.figures import Outcome
    from lorabench.runs import Run
    from lorabench.stages import Stage
    from lorabench.study import Result

app = typer.Typer(
    help="LoRA on your own laptop in seconds: one small study, every number measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Names = Annotated[list[str], typer.Argument(metavar="RUN...", help="Id, unique prefix, glob, or @last.")]
MaybeNames = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Id, unique prefix, glob, or @last.")]
K = Annotated[int | None, typer.Option("--k", help="The rank (PEFT calls it r).")]
Alpha = Annotated[float | None, typer.Option(help="α: LoRA's part is multiplied by α/k, rsLoRA's by α/√k.")]
Targets = Annotated[str | None, typer.Option(metavar="LAYER,...", help="Only these layers, e.g. fc1,fc3.")]


def _scheduler(engine: str | None) -> str | None:
    if engine:
        from lorabench import engines

        try:
            engines.scheduler(engine)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from error
    return engine


Engine = Annotated[
    str | None,
    typer.Option(
        envvar="LORABENCH_ENGINE",
        metavar="dask://HOST:PORT",
        callback=_scheduler,
        help="Run on this Dask cluster, not on this machine.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lorabench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


@command(app)
def pretrain(shared: Shared) -> None:
    """Train the 784-256-128-10 classifier on MNIST."""
    _make("pretrain", shared, {}, "lorabench finetune-lora --k 4")


@command(app)
def make_fmnist(
    shared: Shared,
    fraction: Annotated[float | None, typer.Option(help="Which part of each class is mirrored.")] = None,
    classes: Annotated[str | None, typer.Option(metavar="DIGIT,...", help="Which digits, e.g. 2,3.")] = None,
    axis: Annotated[str | None, typer.Option(metavar="horizontal|vertical|both", help="How to mirror.")] = None,
    write_idx: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write F-MNIST for torchvision.datasets.MNIST(DIR)."),
    ] = None,
) -> None:
    """Make F-MNIST, in which 30% of the twos and threes are mirrored."""
    listed = None if classes is None else [int(c) if c.strip().isdecimal() else c.strip() for c in classes.split(",")]
    flags = {
        "fmnist.fraction": fraction,
        "fmnist.classes": listed,
        "fmnist.axis": axis,
        "fmnist.seed": shared.seed,
    }
    _make("fmnist", shared, flags, "lorabench finetune-lora --k 4", write_idx=write_idx)


@command(app)
def finetune_lora(
    shared: Shared,
    k: K = None,
    init: Annotated[str | None, typer.Option(metavar="talk|kaiming|gaussian", help="How A is drawn.")] = None,
    alpha: Alpha = None,
    targets: Targets = None,
) -> None:
    """Repair the classifier on F-MNIST by LoRA; the same as `finetune lora`."""
    _finetune("lora", shared, k=k, init=init, alpha=alpha, targets=targets)


def _method_list() -> str:
    """A paragraph for each method: name, parameters at its defaults, title, paper. Only for `finetune --help`."""
    if "finetune" not in sys.argv:
        return ""
    from lorabench import methods
    from lorabench.scale import CLASSIFIER

    def line(name: str, method: methods.Method) -> str:
        options = methods.options_model(name)().model_dump()
        shapes = [CLASSIFIER[layer] for layer in method.where(list(CLASSIFIER), options)]
        own = ", ".join(f"{key}={'null' if value is None else value}" for key, value in options.items())
        return f"{name}  {method.formula(shapes, options):,} parameters  {method.title}. {method.paper}. {own}".strip()

    return (
        "\n\n".join(["Methods, what they train by default, and their own settings:"])
        + "\n\n"
        + "\n\n".join(line(name, method) for name, method in methods.METHODS.items())
    )


@command(app, epilog=_method_list())
def finetune(
    shared: Shared,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="One of the methods below.")],
    k: K = None,
    init: Annotated[str | None, typer.Option(metavar="NAME", help="How the method draws its weights.")] = None,
    alpha: Alpha = None,
    targets: Targets = None,
) -> None:
    """Repair the classifier on F-MNIST by any method."""
    _finetune(method, shared, k=k, init=init, alpha=alpha, targets=targets)


@command(app)
def evaluate(
    shared: Shared,
    runs: Names,
    show_errors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Draw N wrongly classified F-MNIST images; --json lists them all."),
    ] = None,
) -> None:
    """Measure runs again on MNIST and on F-MNIST, from their checkpoints."""
    from lorabench import progress, report, work

    loaded = _load(shared, {})
    found = _find(shared, runs)
    with progress.show(stderr(), quiet=shared.quiet) as tell:
        lab = work.open_lab(shared.store, shared.data_dir, loaded.config, tell)
        measured = [work.measure_again(run, lab) for run in found]
        wrong = {run.id: work.mistakes(run, lab) for run in found} if show_errors else {}
    if shared.json:
        emit({"command": "evaluate", "runs": [report.evaluation_data(run, wrong.get(run.id)) for run in measured]})
        return
    console = stdout()
    console.print(report.evaluation(measured))
    if show_errors:
        for run in measured:
            console.print("", report.mistakes(run, wrong[run.id], show_errors), sep="\n")


@command(app)
def export(
    shared: Shared,
    runs: Names,
    to: Annotated[
        str,
        typer.Option(
            metavar="|".join(exporting.TARGETS),
            help="; ".join(f"{name}: {target.title}" for name, target in exporting.TARGETS.items()) + ".",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new or empty folder; default: exports/RUN-TO."),
    ] = None,
) -> None:
    """Take a run elsewhere; done only once the files, read again, give what the run gives."""
    from lorabench import progress, report

    settings, found = _load(shared, {}).config, _find(shared, runs)
    usual = exporting.place(found, to, Path("exports"))
    folder = out or usual
    if shared.dry_run:
        names = [run.id for run in found]
        if shared.json:
            emit({"command": "dry-run", "runs": names, "to": to, "folder": str(folder)})
        else:
            typer.echo(f"would write {' '.join(names)} to {to} into {folder}")
        return
    from lorabench import work

    with progress.show(stderr(), quiet=shared.quiet) as tell:
        lab = work.open_lab(shared.store, shared.data_dir, settings, tell)
        done = exporting.export(found, to, folder, lab, force=shared.force)
    if shared.json:
        emit({"command": "export", **report.exported_data(done, shared.elsewhere)})
    else:
        stdout().print(report.exported(done, shared.elsewhere), soft_wrap=True)


@command(app)
def import_peft(
    shared: Shared,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="As PEFT's save_pretrained writes it.")],
    base: Annotated[str, typer.Option(metavar="RUN", help="The pretrained run that the adapter was made for.")],
) -> None:
    """Bring a LoRA adapter back from PEFT as a finished run."""
    from lorabench import progress, report

    settings, found = _load(shared, {}).config, _find(shared, [base])
    if len(found) > 1:
        raise UsageError(f"--base {base} fits {len(found)} runs; name one")
    if shared.dry_run:
        if shared.json:
            emit({"command": "dry-run", "folder": str(folder), "base": found[0].id})
        else:
            typer.echo(f"would import {folder} onto {found[0].id}")
        return
    from lorabench import adopt, work

    with progress.show(stderr(), quiet=shared.quiet) as tell:
        lab = work.open_lab(shared.store, shared.data_dir, settings, tell)
        run, cached = adopt.adopt(folder, found[0], lab, force=shared.force, wait=not shared.no_wait)
    how: dict[str, Any] = {
        "cached": cached,
        "folder": shared.store.path(run.id),
        "next_command": f"lorabench report {found[0].id} {run.id}{shared.elsewhere}",
    }
    if shared.json:
        emit({"command": "import-peft", **report.summary_data(run, **how)})
    else:
        stdout().print(report.summary(run, **how))


@command(app, name="report")
def show(
    shared: Shared,
    runs: MaybeNames = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="RUN", help="What the others are compared with; default: the first.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="rich|md|csv|json|tex|html|svg", help="csv: a line for each run, unrounded."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a file; its ending is its format (.txt: rich).")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="CONDITION", help="Exit with 6 if a row is such as 'fmnist.delta.low < -0.3%'."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write figures into this folder, as PNG and SVG.")
    ] = None,
) -> None:
    """Show the newest study, one run in full, two runs image by image, or many: seeds in one row per setting."""
    from rich.console import Group

    from lorabench import query, report

    chosen = report.chosen(form, out, json=shared.json)
    condition = query.parse(fail_on) if fail_on else None
    shown = _shown(shared, runs, baseline)
    unmet = report.failing(condition, shown.rows()) if condition else []
    outcomes = _write_figures(shown.runs, shared, figures) if figures else []
    envelope = {"command": "report", **shown.data, "unmet": unmet}
    envelope |= {"figures": report.drawn_data(outcomes)} if figures else {}
    table = Group(shown.table, "", report.drawn(outcomes)) if figures else shown.table
    if chosen == "rich" and not out:
        stdout().print(table)
    else:
        pictures = _pictures(shown.runs, shared) if chosen == "html" else []
        text = as_json(envelope) if chosen == "json" else report.write(table, shown.runs, chosen, figures=pictures)
        if out:
            report.save(text.rstrip("\n") + "\n", out)
            _say(shared, f"wrote {out}")
        if out and shared.json:
            emit(envelope)
        elif not out:
            typer.echo(text.rstrip("\n"))
    if unmet:
        raise GateError(f"--fail-on {fail_on}\n  " + "\n  ".join(unmet))


@command(app, name="study")
def whole_study(
    shared: Shared,
    seeds: Annotated[str | None, typer.Option(metavar="0-4", help="One study for each of these seeds.")] = None,
    k: K = None,
    engine: Engine = None,
) -> None:
    """Run the talk's whole story for several seeds, then report it."""
    from lorabench import engines, report, stages

    loaded = _load(shared, {"study.seeds": seeds, "finetune.k": k})
    settings = loaded.config
    report.check_keys(settings.expect)
    todo = stages.study(settings)
    if shared.dry_run:
        _dry_run(todo, loaded, shared)
        return
    workers = settings.study.workers or min(engines.cores(), sum(stage.kind == "finetune" for stage in todo))
    done = _run(todo, settings, shared, workers=workers, force=todo, engine=engine)
    shared.store.remember_study(settings.study.name, [stage.id for stage in todo])
    costs = shared.store.newest_bench()
    rows = report.ledger(done, costs)
    unmet = report.check(settings.expect, rows)
    if shared.json:
        emit({"command": "study", **report.study_data(done, costs), "unmet": unmet})
    else:
        console = stdout()
        console.print(report.study_report(done, costs))
        console.print(
            f"\n{shared.runs_dir} holds the {len(done)} runs\nnext  lorabench report {done[-1].id}{shared.elsewhere}",
            soft_wrap=True,
        )
    if unmet:
        raise GateError("the study does not give what expect: says\n  " + "\n  ".join(unmet))


@command(app)
def tune(
    shared: Shared,
    seeds: Annotated[str, typer.Option(metavar="0-4", help="One fine-tune at each point for each of these.")] = "0",
    engine: Engine = None,
) -> None:
    """Choose each method's learning rate on held-out images; the test set is not looked at."""
    from lorabench import engines, report
    from lorabench import tune as room

    loaded = _load(shared, {"study.seeds": seeds})
    curves = room.curves(loaded.config)
    todo = room.todo(curves)
    if shared.dry_run:
        _dry_run(todo, loaded, shared)
        return
    workers = loaded.config.study.workers or engines.cores()

    def perform(stages: Sequence[Stage]) -> dict[str, Run]:
        runs = _run(stages, loaded.config, shared, workers=workers, force=stages, keep_going=True, engine=engine)
        return {run.id: run for run in runs}

    found, done = room.tune(curves, perform, lambda text: _say(shared, text))
    rows, held_out = room.rows(found, done), found[0].config.holdout
    if shared.json:
        emit({"command": "tune", "holdout": held_out, "curves": report.curves_data(rows)})
    else:
        stdout().print(report.curves_table(rows, images=held_out, seeds=loaded.config.study.seeds))


@command(app)
def sweep(
    shared: Shared,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY=VALUE,...", help="An axis: k=1,2,4, lora.lr=1e-3,3e-3, any config key."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4", help="A fine-tune at each point for each of these.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", help="How many run side by side; default: one per core.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--fail-fast", help="Finish the other points where one fails, or stop.")
    ] = True,
    engine: Engine = None,
) -> None:
    """Fine-tune at every point of a grid of settings, for several seeds; show the means as a table."""
    from lorabench import engines, report
    from lorabench import sweep as room

    planned = room.plan(_gather(shared, {"study.seeds": seeds, "study.workers": workers}), grid or [])
    settings, todo = planned.config, planned.todo
    workers = settings.study.workers or engines.cores()
    if shared.dry_run:
        expected = room.preview(planned, shared.store, workers, shared.force)
        if shared.json:
            emit({"command": "dry-run", **report.plan_data(expected), "origins": planned.loaded.origins})
        else:
            stdout().print(report.plan_report(expected))
        return
    tally = room.Tally(planned, shared.store)
    _run(
        todo,
        settings,
        shared,
        workers=workers,
        force=todo,
        keep_going=keep_going,
        engine=engine,
        take=tally.take,
    )
    shared.store.remember_study(settings.sweep.name, [stage.id for stage in todo])
    found = tally.result()
    if shared.json:
        emit({"command": "sweep", **report.sweep_data(found)})
    else:
        console = stdout()
        console.print(report.sweep_report(found), crop=False)
        console.print(f"\nnext  lorabench report{shared.elsewhere}", soft_wrap=True)
    if failed := found.tuned.failed:
        raise PartialError(f"{failed} of {sum(map(len, (p.tuned for p in planned.points)))} fine-tunes failed")


@command(app)
def bench(
    shared: Shared,
    names: Annotated[list[str] | None, typer.Argument(metavar="[METHOD]...", help="Which methods; none: all.")] = None,
    ranks: Annotated[str, typer.Option(metavar="K,...", help="LoRA's ranks.")] = "1,4,16",
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Images per training step.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Turns of every method.")] = 5,
    steps: Annotated[int, typer.Option(min=2, max=10_000, help="Training steps in a turn.")] = 20,
) -> None:
    """Measure what each method costs on this machine: time, memory, latency."""
    if not all(k.strip().isdecimal() and 1 <= int(k) <= 1024 for k in ranks.split(",")):
        raise UsageError(f"--ranks {ranks}: write whole numbers from 1 to 1024, e.g. 1,4,16")
    from lorabench import bench as room
    from lorabench import progress, report, work

    settings = _load(shared, {}).config
    with progress.show(stderr(), quiet=shared.quiet) as tell:
        lab = work.open_lab(
            shared.store, shared.data_dir, settings.model_copy(update={"threads": settings.threads or 1}), tell
        )
        chosen = room.cases(names or [], [int(k) for k in ranks.split(",")])
        record = room.record(chosen, batch_size=batch_size, rounds=rounds, steps=steps, device=lab.device)
    shared.store.remember_bench(record)
    if shared.json:
        emit({"command": "bench", **record})
    else:
        stdout().print(report.costs_table(record))


@command(app)
def scale(
    shared: Shared,
    arch: Annotated[
        str | None, typer.Argument(metavar="[ARCH]", help="mlp, gpt3-175b (the default), llama-3-8b or llama-3-70b.")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="METHOD", help="Any method of `finetune --help`.")] = None,
    k: K = None,
    targets: Annotated[
        str | None, typer.Option(metavar="MATRIX,...", help="Which matrices; default: q,v, or the method's own.")
    ] = None,
    precision: Annotated[str, typer.Option(metavar="fp32|fp16|bf16|mixed", help="Of weights and Adam.")] = "fp16",
    gpu_gb: Annotated[int, typer.Option(min=1, max=1_000_000, help="Memory of a GPU, in 10^9 bytes.")] = 32,
    sizes: Annotated[str | None, typer.Option(metavar="NxM,...", help="Linear layers of these sizes.")] = None,
) -> None:
    """Work out what a method would cost on a large model: parameters, bytes, GPUs, multiply-adds."""
    from lorabench import estimate, report

    if arch and sizes:
        raise UsageError("give an architecture or --sizes, not both")
    if method:
        estimate.check_method(method)
    chosen = _load(shared, {"finetune.method": method, "finetune.k": k}).config.finetune
    model = estimate.given(sizes) if sizes else estimate.architecture(arch or "gpt3-175b")
    named = [name.strip() for name in targets.split(",")] if targets else None
    found = estimate.project(model, chosen.method, chosen.options, targets=named, precision=precision, gpu_gb=gpu_gb)
    for warning in estimate.warnings(model, chosen.method, chosen.options, found.targets):
        _say(shared, warning)
    if shared.json:
        emit({"command": "scale", **report.scaling_data(found)})
    else:
        stdout().print(report.scaling(found))


@command(app)
def ls(
    shared: Shared,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Only runs such as 'k >= 4 and fmnist.accuracy > 97%'.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="[-]FIELD,...", help="The order; - falls: -fmnist.accuracy.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; without --sort the newest.")] = None,
    cols: Annotated[
        str | None, typer.Option(metavar="FIELD,...", help="Show these; `help` lists the fields there are.")
    ] = None,
) -> None:
    """List the runs."""
    from datetime import UTC, datetime

    from lorabench import report

    runs, broken = shared.store.scan()
    listed = report.select(runs, where=where, sort=sort, limit=limit, columns=cols) if cols != "help" else None
    if shared.json:
        emit({"command": "ls", **(report.listing_data(listed, broken) if listed else report.fields_data(runs))})
        return
    console = stdout()
    when = datetime.now(UTC)
    table = report.listing(listed, broken, now=when, width=console.width) if listed else report.fields_table(runs)
    console.print(table, crop=False)


def _finetune(method: str, shared: Shared, **own: Any) -> None:
    flags = {"finetune.method": method, **{f"finetune.{key}": value for key, value in own.items()}}
    _make("finetune", shared, flags, "lorabench report {id}")


def _load(shared: Shared, flags: dict[str, Any]) -> Loaded:
    from lorabench import config, methods

    return config.check(_gather(shared, flags), methods=methods.schemas())


def _gather(shared: Shared, flags: dict[str, Any]) -> Source:
    from lorabench import config

    given = {key: value for key, value in flags.items() if value is not None}
    return config.gather(shared.config or [], shared.sets or [], {**shared.flags, **given})


def _make(
    kind: Literal["pretrain", "fmnist", "finetune"],
    shared: Shared,
    flags: dict[str, Any],
    following: str,
    *,
    write_idx: Path | None = None,
) -> None:
    """Run one stage after those that it needs, and show it."""
    from lorabench import report, stages

    loaded = _load(shared, flags)
    todo = stages.chain(loaded.config, kind)
    stage = todo[-1]
    if shared.dry_run:
        _dry_run(todo, loaded, shared)
        return
    there = not shared.force and shared.store.cached(stage.id) is not None
    if missing := [parent.id for parent in todo[:-1] if not shared.store.cached(parent.id)]:
        _say(
            shared,
            f"{stage.id} needs {' and '.join(missing)}: making {'them' if len(missing) > 1 else 'it'} first",
        )
    run = _run(todo, loaded.config, shared, workers=1, force=[stage])[-1]
    pictures = None
    written: list[Path] = []
    if kind == "fmnist" and (write_idx or not shared.json):
        from lorabench import data

        mnist = data.load(shared.data_dir)
        mnist = data.hold_out(mnist, loaded.config.holdout) if loaded.config.holdout else mnist
        chosen = loaded.config.fmnist
        flips = data.choose(mnist, fraction=chosen.fraction, classes=chosen.classes, axis=chosen.axis, seed=chosen.seed)
        pictures = report.preview(*data.examples(mnist, flips))
        written = data.write_fmnist(write_idx, mnist, flips) if write_idx else []
    how: dict[str, Any] = {
        "cached": there,
        "folder": shared.store.path(run.id),
        "next_command": following.format(id=run.id) + shared.elsewhere,
    }
    if shared.json:
        emit({"command": kind, **report.summary_data(run, **how), "written": [str(path) for path in written]})
        return
    console = stdout()
    if pictures:
        console.print(pictures)
    if written:
        console.print(f"wrote {len(written)} files below {write_idx}", soft_wrap=True)
    console.print(report.summary(run, **how))


def _run(
    todo: Sequence[Stage],
    settings: Config,
    shared: Shared,
    *,
    workers: int,
    force: Sequence[Stage],
    keep_going: bool = False,
    engine: str | None = None,
    take: Callable[[Result], None] | None = None,
) -> list[Run]:
    from lorabench import progress, study

    with progress.show(stderr(), quiet=shared.quiet) as tell:
        done = study.run(
            todo,
            settings,
            shared.store,
            data_dir=shared.data_dir,
            workers=workers,
            force={stage.id for stage in force} if shared.force else (),
            patient=not shared.no_wait,
            keep_going=keep_going,
            engine=engine,
            take=take,
            tell=tell,
        )
    return list(done.values())


def _dry_run(todo: Sequence[Stage], loaded: Loaded, shared: Shared) -> None:
    """Say what would be run, what is there, and who set which setting."""
    from lorabench import config

    cached = {stage.id: not shared.force and shared.store.cached(stage.id) is not None for stage in todo}
    if shared.json:
        emit(
            {
                "command": "dry-run",
                "stages": cached,
                "settings": config.flat(loaded.config),
                "origins": loaded.origins,
            }
        )
        return
    for stage in todo:
        typer.echo(f"{'cached   ' if cached[stage.id] else 'would run'}  {stage.id}")
    for key, origin in loaded.origins.items():
        typer.echo(f"{key} set by {origin}")
    typer.echo(f"would run {list(cached.values()).count(False)}, cached {list(cached.values()).count(True)}")


def _shown(shared: Shared, names: Sequence[str] | None, baseline: str | None) -> Shown:
    from lorabench import report

    store = shared.store
    if not names and not baseline:
        return report.study_shown(_newest_study(shared), store.newest_bench())
    found, broken = store.select(names) if names else (_newest_study(shared), [])
    shown = report.runs_shown(store, found, baseline=store.find(baseline) if baseline else [], broken=broken)
    for folder in broken if "broken" not in shown.data else []:
        _say(shared, f"left out: {folder.reason}")
    return shown


def _find(shared: Shared, names: Sequence[str]) -> list[Run]:
    """The runs that all names stand for, each once, in the order of the names."""
    found, broken = shared.store.select(names)
    for folder in broken:
        _say(shared, f"left out: {folder.reason}")
    return found


def _write_figures(found: Sequence[Run], shared: Shared, folder: Path) -> list[Outcome]:
    from lorabench import gallery
    from lorabench.report import figures

    return figures.write(gallery.gather(found, shared.store, shared.data_dir), folder)


def _pictures(found: Sequence[Run], shared: Shared) -> list[tuple[str, str]]:
    from lorabench import gallery
    from lorabench.report import figures

    return figures.svgs(gallery.gather(found, shared.store, shared.data_dir))


def _newest_study(shared: Shared) -> list[Run]:
    runs, broken = shared.store.scan()
    for folder in broken:
        _say(shared, f"left out: {folder.reason}")
    by_id = {run.id: run for run in runs}
    named = shared.store.newest_study()
    if named is not None:
        return [by_id[run_id] for run_id in named if run_id in by_id]
    tuned = [run for run in runs if run.stage == "finetune" and run.status == "done"]
    if not tuned:
        raise InputError(f"there is no study in {shared.runs_dir} yet; `lorabench study` makes one")
    return runs


def _say(shared: Shared, text: str) -> None:
    if not shared.quiet:
        print(text, file=sys.stderr)  # noqa: T201


def main() -> None:
    """The entry point: exit codes as the design says, whatever goes wrong."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        text = error.format_message()
        report_failure(text, UsageError(text), getattr(error, "exit_code", 2), as_json="--json" in sys.argv)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    raise SystemExit(code if isinstance(code, int) else 0)
