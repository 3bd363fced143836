"""Commands that look: evaluate, report, ls at runs; scale at models that are not here; explain at a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench import files
from lorabench.cli import complete
from lorabench.cli.options import SCHEMA, Folder, Images, Models, Scaling, command, emit
from lorabench.cli.stages import (
    K,
    MaybeNames,
    Names,
    answer,
    device_settings,
    find,
    load,
    log,
    newest_costs,
    noted_study,
    opened,
    reporting,
    result_first,
    select,
)
from lorabench.cli.streams import stdout, write_document
from lorabench.errors import GateError, InputError, UsageError
from lorabench.report import writers

if TYPE_CHECKING:
    from lorabench.report.blocks import Block
    from lorabench.report.shown import Shown
    from lorabench.runs import Run

NUMBERS = (
    "Numbers in a condition: an accuracy, p or another share is 97.5% or 0.975; a difference (delta, forgotten) is "
    "points of a hundred and needs its %: -0.3%; counts and bytes are whole; what ends in _s is seconds, in _ms "
    "milliseconds; others are plain numbers. A number that is none of its field's is refused."
)


@command()
def evaluate(
    shared: Models,
    runs: Names,
    show_errors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Draw N wrongly classified F-MNIST images; --json lists them all."),
    ] = None,
) -> None:
    """Measure runs again on MNIST and on F-MNIST, from their checkpoints."""
    from lorabench.data import shifts
    from lorabench.report import detail
    from lorabench.report.blocks import stack
    from lorabench.report.tables import introduced
    from lorabench.runner import measure

    settings, chosen = device_settings(shared), find(shared, runs)
    with opened(shared, settings) as session:
        measured = [measure.measure_again(run, session) for run in chosen]
        wrong = {run.id: measure.mistakes(run, session) for run in chosen} if show_errors else {}

    def mistakes(run: Run) -> Block:
        word = shifts.of(measure.own_config(run, shared.store).fmnist).word
        return detail.mistakes(run, wrong[run.id], show_errors or 0, word)

    answer(
        shared,
        "evaluate",
        lambda: {"runs": [detail.evaluation_data(run, wrong.get(run.id)) for run in measured]},
        lambda: stack(
            [
                introduced(measured, shared.store),
                detail.evaluation(measured),
                *(mistakes(run) for run in measured if wrong),
            ]
        ),
        shared.following("report", *(run.id for run in chosen)),
    )


@command(name="report", epilog=NUMBERS)
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
            help="default: rich, what a terminal shows. csv: a line for each run, unrounded.",
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
    plain: Annotated[bool, typer.Option("--plain", help="Leave the statistical tests and their p out.")] = False,
) -> None:
    """Show the newest study, one run in full, two runs image by image, or many: seeds in one row per setting."""
    from lorabench import query
    from lorabench.analysis import gates
    from lorabench.analysis.listing import suits
    from lorabench.report import blocks, explain, tables
    from lorabench.report import figures as room

    chosen = writers.chosen(form, out, json=shared.json)
    if plain and chosen in ("json", "csv"):
        raise UsageError(f"--plain leaves tests out of tables, and {chosen} has none; leave it out")
    if shared.typed_data_dir and not figures and chosen != "html":
        raise UsageError("--data-dir: MNIST is read for figures alone; add --figures DIR or --out FILE.html")
    condition = query.parse(fail_on, suits) if fail_on is not None else None
    shown = _shown(shared, runs, baseline, study)
    unmet = gates.failing(condition, shown.rows(), shown.lost) if condition else []

    def material() -> room.Material:
        return room.gather(shown.runs, shared.store, shared.data_dir)

    data, document = (
        {"command": "report", **shown.data, "unmet": unmet},
        blocks.plain(shown.table) if plain else shown.table,
    )
    if figures:
        outcomes = room.write(material(), figures)
        data["figures"] = tables.figures_data(outcomes)
        document = blocks.stack([document, tables.figures_written(outcomes)])
    if chosen == "rich" and not out:
        asked = [*(runs or []), *(["--study", study] if study else []), *(["--baseline", baseline] if baseline else [])]
        asked += ["--plain"] if plain else []
        answer(
            shared, "report", lambda: data, lambda: document, shared.following("report", *asked, "--out", "report.html")
        )
    else:
        told = writers.Report(
            document,
            {"schema": SCHEMA, **data},
            shown.runs,
            lambda: room.svgs(material()),
            lambda: explain.story(shown.runs, shared.store, shared.data_dir),
        )
        text = writers.write(told, chosen)
        if out:
            files.write(out, (text.rstrip("\n") + "\n").encode(errors="lorabench"))
            log(shared, f"wrote {out}")
        if out and shared.json:
            emit(data)
        elif not out:
            write_document(text)
    if unmet:
        raise GateError(f"--fail-on {fail_on}", *(f"  {each}" for each in unmet))


def _shown(shared: Images, names: Sequence[str] | None, baseline: str | None, study: str | None) -> Shown:
    from dataclasses import replace

    from lorabench.report import shown

    store = shared.store
    if names and study:
        raise UsageError("give runs or --study, not both")
    if not names and not baseline:
        noted, runs, lost = noted_study(shared, study)
        return replace(shown.as_it_was(noted, store, shown.study_shown(runs, *newest_costs(shared))), lost=lost)
    if names:
        runs, broken = select(shared, names)
        lost = [f"{folder.id}  cannot be read" for folder in broken]
    else:
        (_, runs, lost), broken = noted_study(shared, study), []
    reference, unread = select(shared, [baseline]) if baseline else ([], [])
    result = shown.runs_shown(store, runs, baseline=reference, broken=broken)
    for folder in broken if "broken" not in result.data else []:
        log(shared, f"left out: {folder.reason}")
    return replace(result, lost=[*lost, *(f"{folder.id}  cannot be read" for folder in unread)])


@command(epilog=NUMBERS)
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

    if studies and (where or sort or limit or cols):
        raise UsageError("--studies lists the studies; leave --where, --sort, --limit and --cols out")
    if cols == "help" and (where or sort or limit):
        raise UsageError("--cols help lists the fields of all runs; leave --where, --sort and --limit out")
    if studies:
        _list_studies(shared)
    else:
        with uncollected():
            _list(shared, where, sort, limit, cols)


def _list_studies(shared: Folder) -> None:
    from datetime import UTC, datetime

    from lorabench.report import listing

    studies, broken = shared.store.studies()
    fields = {"name", "kind", "ended", "runs"}
    answer(
        shared,
        "ls",
        lambda: {"studies": [s.model_dump(include=fields) for s in studies], "broken": [vars(note) for note in broken]},
        lambda: listing.studies_table(studies, broken, shared.store.holds, datetime.now(UTC)),
        shared.following("report", "--study", studies[-1].name) if studies else shared.following("study"),
    )


def _list(shared: Folder, where: str | None, sort: str | None, limit: int | None, cols: str | None) -> None:
    """What `ls` does, with the records gone at its end: the collector never sees thousands of them."""
    from datetime import UTC, datetime

    from lorabench.analysis.listing import fields_data, listing_data
    from lorabench.analysis.listing import select as select_runs
    from lorabench.report import listing

    runs, broken = shared.store.scan()
    if cols == "help":
        following = shared.following("ls", "--cols", "id,fmnist.accuracy", "--sort", "-fmnist.accuracy")
        answer(shared, "ls", lambda: fields_data(runs), lambda: listing.fields_table(runs), following)
        return
    chosen = select_runs(runs, where=where, sort=sort, limit=limit, columns=cols)
    done = [run for run in chosen.runs if run.status == "done"]
    answer(
        shared,
        "ls",
        lambda: listing_data(chosen, broken),
        lambda: listing.listing(chosen, broken, now=datetime.now(UTC), width=stdout().width, known=runs),
        shared.following("report", done[-1].id) if done else shared.following("study"),
    )


@command()
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
    from lorabench import methods
    from lorabench import scale as room
    from lorabench.analysis.measured import measured_data
    from lorabench.report import costs
    from lorabench.report.blocks import stack

    if arch and sizes:
        raise UsageError("give an architecture or --sizes, not both")
    given = {"batch": batch, "context": context, "limit": limit}
    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if asked and not measure:
        raise UsageError(f"--{next(iter(asked))} is of a measurement; add --measure")
    if method:
        methods.complete(method, {})
    settings = load(shared, {"finetune.method": method, "finetune.k": k}).config
    chosen = settings.finetune
    model = room.given(sizes) if sizes else room.architecture(arch or "gpt3-175b")
    named = [name.strip() for name in targets.split(",")] if targets else None
    precision = precision or ("fp32" if measure else "fp16")
    projection = room.project(model, chosen.method, chosen.options, targets=named, precision=precision, gpu_gb=gpu_gb)
    for warning in room.warnings(model, chosen.method, chosen.options, projection.tuned.targets):
        log(shared, warning)
    data, document = costs.scaling_data(projection), costs.scaling(projection)
    if not measure:
        answer(shared, "scale", lambda: data, lambda: document, shared.following("scale", "gpt2", "--measure"))
        return
    setup = room.Setup(precision=precision, device=settings.device, threads=settings.threads, **asked)
    record = room.measure(
        model, chosen.method, chosen.options, projection.tuned.targets, setup, lambda text: log(shared, text)
    )
    answer(
        shared,
        "scale",
        lambda: {**data, "measured": measured_data(record)},
        lambda: stack([document, costs.measured_report(record, projection.tuned.label)]),
        reporting(shared),
    )
    with result_first():
        shared.store.remember_measurement(record)


def _names(ctx: typer.Context, incomplete: str) -> complete.Offer:
    return [*complete.methods(incomplete), *complete.runs(ctx, incomplete)]


@command()
def explain(
    shared: Folder,
    name: Annotated[
        str, typer.Argument(metavar="[METHOD|RUN]", autocompletion=_names, help="A method, or a fine-tuned run.")
    ] = "lora",
) -> None:
    """Draw a method to scale, count what it trains, and show what a run of it did to one digit."""
    from lorabench.config import nearest
    from lorabench.methods import METHODS
    from lorabench.report import explain as room
    from lorabench.report.blocks import line, stack

    if name in METHODS:
        told = room.by_default(name)
        others = ", ".join(other for other in METHODS if other != name)
        also = line("also  ", "dim") + f"lorabench explain RUN, or another METHOD: {others}"
        following = shared.following("finetune", name)
        document = stack([room.explanation(told), also])
        answer(shared, "explain", lambda: room.explanation_data(told), lambda: document, following)
        return
    try:
        runs, _ = select(shared, [name])
    except InputError as error:
        near = nearest(name, METHODS) or f": {', '.join(METHODS)}"
        raise InputError(f"{error}; nor is {name} a method{near}") from None
    run = runs[0] if runs else None
    if run is None or len(runs) > 1 or run.stage != "finetune":
        raise UsageError(f"{name}: explain takes one fine-tuned run, or a method: {', '.join(METHODS)}")
    from lorabench.report.figures import pictures_of

    told = room.of_run(run)
    images = shared.store.finished(run.parents.data) if run.parents.data else None
    settings = images.settings if images else {}
    pictures = pictures_of(run, shared.store, None)
    answer(
        shared,
        "explain",
        lambda: {**room.explanation_data(told), "run": room.outcome_data(run, pictures, settings)},
        lambda: stack([room.explanation(told), room.outcome(run, pictures, settings)]),
        shared.following("report", run.id),
    )
