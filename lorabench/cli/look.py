"""Commands that look at runs: evaluate, report, ls; and scale, at models that are not here."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench import files
from lorabench.analysis import unit
from lorabench.cli import complete
from lorabench.cli.app import app
from lorabench.cli.options import SCHEMA, Folder, Images, Models, Scaling, command, emit
from lorabench.cli.stages import (
    K,
    MaybeNames,
    Names,
    device_settings,
    find,
    load,
    log,
    newest_costs,
    noted_study,
    result_first,
    select,
)
from lorabench.cli.streams import stderr, stdout, write_document
from lorabench.errors import GateError, UsageError
from lorabench.report import writers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.report.blocks import Block
    from lorabench.report.figures import Outcome
    from lorabench.report.shown import Shown
    from lorabench.runs import Run


@command(app)
def evaluate(
    shared: Models,
    runs: Names,
    show_errors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Draw N wrongly classified F-MNIST images; --json lists them all."),
    ] = None,
) -> None:
    """Measure runs again on MNIST and on F-MNIST, from their checkpoints."""
    from lorabench.cli import progress
    from lorabench.data import shifts
    from lorabench.report import single
    from lorabench.report.writers.terminal import renderable
    from lorabench.runner import measure
    from lorabench.runner.load import own_config
    from lorabench.runner.session import open_session

    settings, found = device_settings(shared), find(shared, runs)
    with (
        progress.show(stderr(), quiet=shared.quiet) as on_event,
        open_session(shared.store, shared.data_dir, settings, on_event) as session,
    ):
        measured = [measure.measure_again(run, session) for run in found]
        wrong = {run.id: measure.mistakes(run, session) for run in found} if show_errors else {}
    if shared.json:
        emit({"command": "evaluate", "runs": [single.evaluation_data(run, wrong.get(run.id)) for run in measured]})
        return
    console = stdout()
    console.print(renderable(single.evaluation(measured)))
    if show_errors:
        for run in measured:
            word = shifts.of(own_config(run, shared.store).fmnist).word
            console.print("", renderable(single.mistakes(run, wrong[run.id], show_errors, word)), sep="\n")


@command(app, name="report", epilog=unit.HELP)
def show(
    shared: Images,
    runs: MaybeNames = None,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=complete.studies, help="Another study than the newest, a sweep, ..."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", autocompletion=complete.runs, help="What the others are compared with; default: the first."
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(writers.FORMATS),
            autocompletion=complete.words(*writers.FORMATS),
            help="csv: a line for each run, unrounded.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a file; its ending is its format (.txt: rich).")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            autocompletion=complete.condition,
            help="Exit with 6 if a row is such as 'fmnist.delta.low < -0.3%', or does not say whether it is: a value "
            "that it asks for is missing, or a run is not done.",
        ),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write figures into this folder, as PNG and SVG.")
    ] = None,
) -> None:
    """Show the newest study, one run in full, two runs image by image, or many: seeds in one row per setting."""
    from lorabench import query
    from lorabench.analysis import fields, gates
    from lorabench.report import summary
    from lorabench.report.blocks import stack
    from lorabench.report.writers.terminal import renderable

    chosen = writers.chosen(form, out, json=shared.json)
    condition = query.parse(fail_on, fields.suits) if fail_on is not None else None
    shown = _shown(shared, runs, baseline, study)
    unmet = gates.failing(condition, shown.rows(), shown.lost) if condition else []
    outcomes = _write_figures(shown.runs, shared, figures) if figures else []
    envelope = {"command": "report", **shown.data, "unmet": unmet}
    envelope |= {"figures": summary.figures_data(outcomes)} if figures else {}
    document = stack([shown.table, summary.figures_written(outcomes)]) if figures else shown.table
    if chosen == "rich" and not out:
        stdout().print(renderable(document), crop=False)
    else:
        data = {"schema": SCHEMA, **envelope}
        told = writers.Report(
            document, data, shown.runs, lambda: _pictures(shown.runs, shared), lambda: _story(shown.runs, shared)
        )
        text = writers.write(told, chosen)
        if out:
            files.write(out, (text.rstrip("\n") + "\n").encode())
            log(shared, f"wrote {out}")
        if out and shared.json:
            emit(envelope)
        elif not out:
            write_document(text)
    if unmet:
        raise GateError(f"--fail-on {fail_on}\n  " + "\n  ".join(unmet))


def _shown(shared: Images, names: Sequence[str] | None, baseline: str | None, study: str | None) -> Shown:
    from dataclasses import replace

    from lorabench.report import shown

    store = shared.store
    if names and study:
        raise UsageError("give runs or --study, not both")
    if not names and not baseline:
        noted, found, lost = noted_study(shared, study)
        return replace(shown.as_it_was(noted, store, shown.study_shown(found, *newest_costs(shared))), lost=lost)
    if names:
        found, broken = select(shared, names)
        lost = [f"{folder.id}  cannot be read" for folder in broken]
    else:
        (_, found, lost), broken = noted_study(shared, study), []
    reference, unread = select(shared, [baseline]) if baseline else ([], [])
    result = shown.runs_shown(store, found, baseline=reference, broken=broken)
    for folder in broken if "broken" not in result.data else []:
        log(shared, f"left out: {folder.reason}")
    return replace(result, lost=[*lost, *(f"{folder.id}  cannot be read" for folder in unread)])


def _write_figures(found: Sequence[Run], shared: Images, folder: Path) -> list[Outcome]:
    from lorabench.report import figures
    from lorabench.report.figures.material import gather

    return figures.write(gather(found, shared.store, shared.data_dir), folder)


def _pictures(found: Sequence[Run], shared: Images) -> list[tuple[str, str]]:
    from lorabench.report import figures
    from lorabench.report.figures.material import gather

    return figures.svgs(gather(found, shared.store, shared.data_dir))


def _story(found: Sequence[Run], shared: Images) -> Block | None:
    from lorabench.report import explain

    return explain.story(found, shared.store, shared.data_dir)


@command(app, epilog=unit.HELP)
def ls(
    shared: Folder,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            autocompletion=complete.condition,
            help="Only runs such as 'k >= 4 and fmnist.accuracy > 97%'.",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="[-]FIELD,...", autocompletion=complete.fields, help="The order; - falls: -fmnist.accuracy."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; without --sort the newest.")] = None,
    cols: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD,...", autocompletion=complete.fields, help="Show these; `help` lists the fields there are."
        ),
    ] = None,
    studies: Annotated[bool, typer.Option("--studies", help="List the studies, sweeps and tunings instead.")] = False,
) -> None:
    """List the runs, or the studies."""
    from lorabench.runs import uncollected

    if studies:
        if where or sort or limit or cols:
            raise UsageError("--studies lists the studies; leave --where, --sort, --limit and --cols out")
        _list_studies(shared)
        return
    with uncollected():
        _list(shared, where, sort, limit, cols)


def _list_studies(shared: Folder) -> None:
    from datetime import UTC, datetime

    from lorabench.report import listing
    from lorabench.report.writers.terminal import renderable

    studies, broken = shared.store.studies()
    if shared.json:
        shown = [study.model_dump(include={"name", "kind", "ended", "runs"}) for study in studies]
        emit({"command": "ls", "studies": shown, "broken": [vars(note) for note in broken]})
    else:
        when, holds = datetime.now(UTC), shared.store.holds
        stdout().print(renderable(listing.studies_table(studies, broken, holds, when, shared.elsewhere)))


def _list(shared: Folder, where: str | None, sort: str | None, limit: int | None, cols: str | None) -> None:
    """What `ls` does, with the records gone at its end: the collector never sees thousands of them."""
    from datetime import UTC, datetime

    from lorabench.analysis.listing import fields_data, listing_data, select
    from lorabench.report import listing
    from lorabench.report.writers.terminal import renderable

    if cols == "help" and (where or sort or limit):
        raise UsageError("--cols help lists the fields of all runs; leave --where, --sort and --limit out")
    runs, broken = shared.store.scan()
    listed = select(runs, where=where, sort=sort, limit=limit, columns=cols) if cols != "help" else None
    if shared.json:
        emit({"command": "ls", **(listing_data(listed, broken) if listed else fields_data(runs))})
        return
    console = stdout()
    when = datetime.now(UTC)
    table = (
        listing.listing(listed, broken, now=when, width=console.width, known=runs)
        if listed
        else listing.fields_table(runs)
    )
    console.print(renderable(table), crop=False)


@command(app)
def scale(
    shared: Scaling,
    arch: Annotated[
        str | None,
        typer.Argument(
            metavar="[ARCH]",
            autocompletion=complete.models,
            help="gpt2, gpt2-xl, gpt3-175b (the default), llama-3-8b, llama-3-70b, mlp.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="METHOD", autocompletion=complete.methods, help="Any method of `finetune --help`."),
    ] = None,
    k: K = None,
    targets: Annotated[
        str | None, typer.Option(metavar="MATRIX,...", help="Which matrices; default: q,v, or the method's own.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16|bf16|mixed",
            autocompletion=complete.words("fp32", "fp16", "bf16", "mixed"),
            help="Of weights and Adam; default: fp16, measured fp32.",
        ),
    ] = None,
    gpu_gb: Annotated[int, typer.Option(min=1, max=1_000_000, help="Memory of a GPU, in 10^9 bytes.")] = 32,
    sizes: Annotated[str | None, typer.Option(metavar="NxM,...", help="Linear layers of these sizes.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train it here on random tokens, or as many of its blocks as fit.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Sequences of a measured step; default: 1.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Tokens of a sequence; default: 128.")
    ] = None,
    limit: Annotated[
        float | None, typer.Option(min=1, max=86_400, help="Seconds that it aims at; default: 100.")
    ] = None,
) -> None:
    """Work out what a method would cost on a large model: parameters, bytes, GPUs, multiply-adds."""
    from lorabench import scale as room
    from lorabench.analysis.measured import measured_data
    from lorabench.report import scaling
    from lorabench.report.blocks import stack
    from lorabench.report.costs import measured_report
    from lorabench.report.writers.terminal import renderable

    if arch and sizes:
        raise UsageError("give an architecture or --sizes, not both")
    given = {"batch": batch, "context": context, "limit": limit}
    if not measure and (idle := [name for name, value in given.items() if value is not None]):
        raise UsageError(f"--{idle[0]} is of a measurement; add --measure")
    if method:
        room.check_method(method)
    settings = load(shared, {"finetune.method": method, "finetune.k": k}).config
    chosen = settings.finetune
    model = room.given(sizes) if sizes else room.architecture(arch or "gpt3-175b")
    named = [name.strip() for name in targets.split(",")] if targets else None
    precision = precision or ("fp32" if measure else "fp16")
    found = room.project(model, chosen.method, chosen.options, targets=named, precision=precision, gpu_gb=gpu_gb)
    for warning in room.warnings(model, chosen.method, chosen.options, found.tuned.targets):
        log(shared, warning)
    data, document = {"command": "scale", **scaling.scaling_data(found)}, scaling.scaling(found)
    record = None
    if measure:
        usual = room.Setup
        setup = usual(
            precision=precision,
            batch=batch or usual.batch,
            context=context or usual.context,
            limit=limit or usual.limit,
            device=settings.device,
            threads=settings.threads,
        )
        record = room.measure(
            model, chosen.method, chosen.options, found.tuned.targets, setup, lambda text: log(shared, text)
        )
        data["measured"] = measured_data(record)
        document = stack([document, measured_report(record, found.tuned.label)])
    if shared.json:
        emit(data)
    else:
        stdout().print(renderable(document))
    if record:
        with result_first():
            shared.store.remember_measurement(record)
