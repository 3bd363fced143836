"""The command line: parse, call, print. `lorabench --help` lists the commands.

options  the application         stages   what several commands share
help     with the defaults       complete what the shell offers
make     one run                 studies  many runs
look     what there is           move     elsewhere and back
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Any

import typer

from lorabench.cli import complete
from lorabench.cli.options import app, report_failure
from lorabench.cli.streams import fit
from lorabench.errors import UsageError, refusal

for room in ("make", "studies", "look", "move"):  # in this order the help lists their commands
    import_module(f"lorabench.cli.{room}")


def _other_word(error: typer.TyperException) -> str:
    """What to say of an option that is another program's word for a setting, or a setting without an option."""
    from lorabench.config import WORDS

    option, context = getattr(error, "option_name", None) or "", getattr(error, "ctx", None)
    word = option.lstrip("-").replace("-", "_")
    ours = WORDS.get(word, word)
    if not context or ours not in WORDS.values():
        return ""
    known = {name for parameter in context.command.params for name in parameter.opts}
    section = "pretrain" if context.info_name == "pretrain" else "finetune"
    here = f"--{ours}" if f"--{ours}" in known else f"-s {section}.{ours}=VALUE" if "-s" in known else ""
    return f"No such option: {option}; here it is {here}" if here else ""


def _where_to_look(error: typer.TyperException) -> str:
    """Where there is more, where something is missing: the message does not say what it may be."""
    context = getattr(error, "ctx", None)
    if context is None or type(error).__name__ != "MissingParameter":
        return ""
    return f" `lorabench {context.info_name} --help` says what it may be."


def main() -> None:
    """The entry point: exit codes as the design says, whatever goes wrong."""
    fit()
    # Records hold no cycles, and to look for some among thousands takes longer than `ls`, above all at the end.
    gc.set_threshold(1_000_000)
    code: Any = 0
    try:
        with complete.rejoined():
            code = app(standalone_mode=False)
        if sys.stdout:
            sys.stdout.flush()
    except typer.TyperException as error:
        text = _other_word(error) or error.format_message() + _where_to_look(error)
        report_failure(text, UsageError(text), getattr(error, "exit_code", 2), as_json="--json" in sys.argv)
        raise SystemExit(2) from None
    except typer.Abort:
        raise SystemExit(130) from None
    except OSError as error:  # of stdout: all else is answered where it happens
        sys.stdout = None  # Python would write the rest of it when it ends, and complain
        if not code and not isinstance(error, BrokenPipeError):  # else that it fails, or what failed, is said
            code = refusal(error).exit_code
            report_failure(f"stdout: {error.strerror or error}", error, code, as_json=False)
    finally:
        gc.freeze()
    raise SystemExit(code if isinstance(code, int) else 0)
