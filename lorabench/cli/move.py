"""Commands that take runs elsewhere and back, or away: export, import-peft, import-base, rm."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench import exchange
from lorabench.cli import complete
from lorabench.cli.options import Exporting, Importing, Removing, command
from lorabench.cli.stages import Names, answer, device_settings, find, log, named_base, opened, say, select

if TYPE_CHECKING:
    from lorabench.runner.stages import Stage
    from lorabench.runs import Run


@command()
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
    from lorabench.report import tables

    settings, chosen = device_settings(shared), find(shared, runs)
    folder = exchange.place(chosen, to, Path("exports")) if out is None else out
    if shared.dry_run:
        exchange.check(chosen, to, folder)
        names = [run.id for run in chosen]
        plan = {"runs": names, "to": to, "folder": str(folder)}
        say(shared, "dry-run", plan, [f"would write {' '.join(names)} to {to} into {folder}"])
        return
    with opened(shared, settings) as session:
        done = exchange.export(chosen, to, folder, session, force=shared.force)
    following = shared.following(*shlex.split(done.following)[1:])
    answer(
        shared,
        "export",
        lambda: {**tables.export_data(done), "next": following},
        lambda: tables.export_summary(done),
        following,
    )


@command()
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
    """Bring an adapter back from PEFT as a finished run."""
    from lorabench.exchange import peft

    settings, onto = device_settings(shared), named_base(shared, base)
    if shared.dry_run:
        stage, _ = peft.plan(folder, onto, shared.store)
        _would_import(shared, stage, f"{folder} onto {onto.id}", {"folder": str(folder), "base": onto.id})
        return
    with opened(shared, settings) as session:
        run, cached = peft.import_adapter(folder, onto, session, force=shared.force, wait=not shared.no_wait)
    _imported(shared, "import-peft", run, cached, shared.following("report", onto.id, run.id))


@command()
def import_base(
    shared: Importing,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.safetensors", help="The weights and biases of a 784-256-128-10 classifier.")
    ],
) -> None:
    """Bring a classifier of one's own as a base that fine-tunes start from: `finetune-lora --base RUN`."""
    from lorabench.exchange import base

    settings = device_settings(shared)
    if shared.dry_run:
        stage, _ = base.plan(file)
        _would_import(shared, stage, str(file), {"file": str(file)})
        return
    with opened(shared, settings) as session:
        run, cached = base.import_base(file, session, force=shared.force, wait=not shared.no_wait)
    _imported(shared, "import-base", run, cached, shared.following("finetune-lora", "--k", 4, "--base", run.id))


def _would_import(shared: Importing, stage: Stage, origin: str, plan: dict[str, str]) -> None:
    from lorabench.runner import stages

    cached = not shared.force and stages.cached(stage, shared.store) is not None
    verb = "cached" if cached else "would import"
    say(shared, "dry-run", {**plan, "stages": {stage.id: cached}}, [f"{verb}  {stage.id}, of {origin}"])


def _imported(shared: Importing, command: str, run: Run, cached: bool, following: str) -> None:
    from lorabench.report import detail

    place = shared.store.path(run.id)
    answer(
        shared,
        command,
        lambda: detail.summary_data(run, cached=cached, folder=place, next_command=following),
        lambda: detail.summary(run, cached=cached, folder=place),
        following,
    )


@command()
def rm(shared: Removing, runs: Names) -> None:
    """Remove runs, and say what was made from them; the commands that made them make them again."""
    from lorabench.report.blocks import group, line

    chosen, broken = select(shared, runs)
    ids = [run.id for run in chosen] + [folder.id for folder in broken]
    known, _ = shared.store.scan()
    needing = [run.id for run in known if run.id not in ids and {run.parents.base, run.parents.data} & {*ids}]
    studies = [study.name for study in shared.store.studies()[0] if {*study.runs} & {*ids}]
    for run_id in [] if shared.dry_run else ids:
        shared.store.remove(run_id)
    done = {"runs": ids, "needed_by": needing, "studies": studies}
    verb = "would remove" if shared.dry_run else "removed"
    answer(
        shared,
        "dry-run" if shared.dry_run else "rm",
        lambda: done,
        lambda: group(*(line(f"{verb}  {run_id}") for run_id in ids)),
        None if shared.dry_run else shared.following("ls"),
    )
    if needing:
        more = f" and {len(needing) - 5} more" if len(needing) > 5 else ""
        log(shared, f"made from them, and not evaluated or exported without them: {', '.join(needing[:5])}{more}")
    if studies:
        log(shared, f"they are part of: {', '.join(studies)}")
