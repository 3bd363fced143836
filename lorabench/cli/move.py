"""Commands that take runs elsewhere and back, or away: export, import-peft, rm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lorabench import exchange
from lorabench.cli import complete
from lorabench.cli.app import app
from lorabench.cli.options import Exporting, Importing, Removing, command, emit
from lorabench.cli.stages import (
    Names,
    device_settings,
    find,
    log,
    select,
)
from lorabench.cli.streams import stderr, stdout
from lorabench.errors import UsageError


@command(app)
def export(
    shared: Exporting,
    runs: Names,
    to: Annotated[
        str,
        typer.Option(
            metavar="|".join(exchange.TARGETS),
            autocompletion=complete.words(*exchange.TARGETS),
            help="; ".join(f"{name}: {target.title}" for name, target in exchange.TARGETS.items()) + ".",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new or empty folder; default: exports/RUN-TO."),
    ] = None,
) -> None:
    """Take a run elsewhere; done only once the files, read again, give what the run gives."""
    from lorabench.cli import progress
    from lorabench.report import summary
    from lorabench.report.writers.terminal import renderable

    settings, found = device_settings(shared), find(shared, runs)
    usual = exchange.place(found, to, Path("exports"))
    folder = out or usual
    if shared.dry_run:
        exchange.check(found, to, folder)
        names = [run.id for run in found]
        if shared.json:
            emit({"command": "dry-run", "runs": names, "to": to, "folder": str(folder)})
        else:
            typer.echo(f"would write {' '.join(names)} to {to} into {folder}")
        return
    from lorabench.runner.session import open_session

    with (
        progress.show(stderr(), quiet=shared.quiet) as on_event,
        open_session(shared.store, shared.data_dir, settings, on_event) as session,
    ):
        done = exchange.export(found, to, folder, session, force=shared.force)
    if shared.json:
        emit({"command": "export", **summary.export_data(done, shared.elsewhere)})
    else:
        stdout().print(renderable(summary.export_summary(done, shared.elsewhere)), soft_wrap=True)


@command(app)
def import_peft(
    shared: Importing,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="As PEFT's save_pretrained writes it.")],
    base: Annotated[
        str,
        typer.Option(
            metavar="RUN", autocompletion=complete.runs, help="The pretrained run that the adapter was made for."
        ),
    ],
) -> None:
    """Bring a LoRA adapter back from PEFT as a finished run."""
    from lorabench.cli import progress
    from lorabench.report import summary
    from lorabench.report.writers.terminal import renderable

    settings, found = device_settings(shared), find(shared, [base])
    if len(found) > 1:
        raise UsageError(f"--base {base} fits {len(found)} runs; name one")
    from lorabench.exchange import peft
    from lorabench.runner import stages
    from lorabench.runner.session import open_session

    if shared.dry_run:
        stage, _ = peft.plan(folder, found[0], shared.store)
        there = not shared.force and stages.cached(stage, shared.store) is not None
        if shared.json:
            emit(
                {
                    "command": "dry-run",
                    "folder": str(folder),
                    "base": found[0].id,
                    "stages": {stage.id: there},
                }
            )
        else:
            typer.echo(f"{'cached' if there else 'would import'}  {stage.id}, of {folder} onto {found[0].id}")
        return
    with (
        progress.show(stderr(), quiet=shared.quiet) as on_event,
        open_session(shared.store, shared.data_dir, settings, on_event) as session,
    ):
        run, cached = peft.import_adapter(folder, found[0], session, force=shared.force, wait=not shared.no_wait)
    how: dict[str, Any] = {
        "cached": cached,
        "folder": shared.store.path(run.id),
        "next_command": f"lorabench report {found[0].id} {run.id}{shared.elsewhere}",
    }
    if shared.json:
        emit({"command": "import-peft", **summary.summary_data(run, **how)})
    else:
        stdout().print(renderable(summary.summary(run, **how)))


@command(app)
def rm(shared: Removing, runs: Names) -> None:
    """Remove runs, and say what was made from them; the commands that made them make them again."""
    chosen, broken = select(shared, runs)
    ids = [run.id for run in chosen] + [folder.id for folder in broken]
    known, _ = shared.store.scan()
    needing = [run.id for run in known if run.id not in ids and {run.parents.base, run.parents.data} & {*ids}]
    studies = [study.name for study in shared.store.studies()[0] if {*study.runs} & {*ids}]
    for run_id in [] if shared.dry_run else ids:
        shared.store.remove(run_id)
    if shared.json:
        done = {"command": "dry-run" if shared.dry_run else "rm", "runs": ids, "needed_by": needing, "studies": studies}
        emit(done)
        return
    for run_id in ids:
        typer.echo(f"{'would remove' if shared.dry_run else 'removed'}  {run_id}")
    if needing:
        more = f" and {len(needing) - 5} more" if len(needing) > 5 else ""
        log(shared, f"made from them, and not evaluated or exported without them: {', '.join(needing[:5])}{more}")
    if studies:
        log(shared, f"they are part of: {', '.join(studies)}")
