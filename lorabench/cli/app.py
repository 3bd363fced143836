"""The application that all commands belong to."""

from __future__ import annotations

from typing import Annotated

import typer

from lorabench import __version__
from lorabench.cli.help import Group

app = typer.Typer(
    cls=Group,
    help="LoRA on your own laptop in seconds: one small study, every number measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


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
