"""`explain`: what a method computes and trains, and what a run of it did."""

from __future__ import annotations

from typing import Annotated

import typer

from lorabench.cli import complete
from lorabench.cli.app import app
from lorabench.cli.options import Folder, command
from lorabench.cli.stages import answer, select
from lorabench.errors import InputError, UsageError


def _names(ctx: typer.Context, incomplete: str) -> complete.Offer:
    return [*complete.methods(incomplete), *complete.runs(ctx, incomplete)]


@command(app)
def explain(
    shared: Folder,
    name: Annotated[
        str, typer.Argument(metavar="[METHOD|RUN]", autocompletion=_names, help="A method, or a fine-tuned run.")
    ] = "lora",
) -> None:
    """Draw a method to scale, count what it trains, and show what a run of it did to one digit."""
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
        raise InputError(f"{error}; nor is {name} a method: {', '.join(METHODS)}") from None
    run = runs[0] if runs else None
    if run is None or len(runs) > 1 or run.stage != "finetune":
        raise UsageError(f"{name}: explain takes one fine-tuned run, or a method: {', '.join(METHODS)}")
    from lorabench.report.figures.material import pictures_of

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
