"""The command line: parse, call, print. `lorabench --help` lists the commands.

app      the application         common   what several commands share
make     one run                 studies  many runs
look     what there is           move     elsewhere and back
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from lorabench.cli.app import app
from lorabench.errors import UsageError
from lorabench.options import report_failure

for room in ("make", "studies", "look", "move"):  # in this order the help lists their commands
    import_module(f"lorabench.cli.{room}")


def main() -> None:
    """The entry point: exit codes as the design says, whatever goes wrong."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        text = error.format_message()
        report_failure(text, UsageError(text), getattr(error, "exit_code", 2), as_json="--json" in sys.argv)
        raise SystemExit(2) from None
    except typer.Abort:
        raise SystemExit(130) from None
    raise SystemExit(code if isinstance(code, int) else 0)
