"""The options that every command has, written once, and what every command does around its own work.

    @command(app)
    def pretrain(shared: Shared) -> None: ...

`command` replaces the parameter `shared` by the options below, turns expected failures into one line on stderr and
their exit code, and answers Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from lorabench.errors import ConfigError, InputError, LorabenchError, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from lorabench.runs import Store

SCHEMA = 1
INTERRUPTED, TERMINATED, BUG = 130, 143, 1


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: stop as for Ctrl-C, with another exit code."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The options that every command has."""

    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", metavar="FILE", help="A YAML config; again: later ones win."),
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="One setting, e.g. finetune.k=8."),
    ] = None
    seed: Annotated[int | None, typer.Option(help="The seed that all training follows.")] = None
    runs_dir: Annotated[Path, typer.Option(envvar="LORABENCH_RUNS", metavar="DIR", help="Where runs are.")] = Path(
        "runs"
    )
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="LORABENCH_DATA", metavar="DIR", help="Where MNIST is; default: the user's cache."),
    ] = None
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to train.")] = None
    threads: Annotated[int | None, typer.Option(help="Threads of each process.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False
    force: Annotated[bool, typer.Option("--force", help="Run again what is there already.")] = False
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Give up (exit 75) on a run that another process makes.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False

    @property
    def store(self) -> Store:
        """The runs folder."""
        from lorabench.runs import Store

        return Store(self.runs_dir)

    @property
    def elsewhere(self) -> str:
        """What a further command needs to find the same runs: ` --runs-dir DIR`, or nothing if it finds them anyway."""
        usual = Path(os.environ.get("LORABENCH_RUNS", "runs"))
        return "" if self.runs_dir == usual else f" --runs-dir {self.runs_dir}"

    @property
    def flags(self) -> dict[str, Any]:
        """The settings that these options set, by config key."""
        given = {"seed": self.seed, "device": self.device, "threads": self.threads}
        return {key: value for key, value in given.items() if value is not None}


class _Results(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read has seen enough: `_guarded` ends the command, with 0."""
        raise


class _Progress(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads what we tell, and the work goes on."""
        self.quiet = True


def stdout() -> Console:
    """Where results go. Piped output is as wide as COLUMNS says, or 100."""
    fixed = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100
    return _Results(highlight=False, width=fixed)


def stderr() -> Console:
    """Where progress and messages go."""
    return _Progress(stderr=True, highlight=False, force_interactive=sys.stderr.isatty())


def as_json(document: dict[str, Any]) -> str:
    """One JSON document with its schema."""
    return json.dumps({"schema": SCHEMA, **document}, indent=1, default=str)


def emit(document: dict[str, Any]) -> None:
    """Print one JSON document with its schema."""
    print(as_json(document))  # noqa: T201


def command(
    app: typer.Typer, name: str | None = None, epilog: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command; its parameter `shared` becomes the options of `Shared`."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "shared"]
        common = _common()

        @functools.wraps(function)
        def run(**given: Any) -> None:
            shared = Shared(**{f.name: given.pop(f.name) for f in fields(Shared)})
            _guarded(functools.partial(function, shared=shared, **given), shared)

        run.__signature__ = inspect.Signature([*own, *common])  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *common]}
        return app.command(name, epilog=epilog)(run)

    return register


@functools.cache
def _common() -> list[inspect.Parameter]:
    types = inspect.get_annotations(Shared, eval_str=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
        for f in fields(Shared)
    ]


def _guarded(function: Callable[[], None], shared: Shared) -> None:
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        function()
    except KeyboardInterrupt as error:
        code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        _fail("interrupted; the same command goes on from what is finished", error, code, shared)
    except LorabenchError as error:
        _fail(str(error), error, error.exit_code, shared)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain about it when it closes stdout.
        sys.stdout = None
        raise typer.Exit from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{error.strerror or error}", error, InputError.exit_code, shared)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is reported in one line, too
        _fail(f"a bug in lorabench: {type(error).__name__}: {error} (--debug shows where)", error, BUG, shared)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _fail(text: str, error: BaseException, code: int, shared: Shared) -> NoReturn:
    if shared.debug:
        traceback.print_exception(error)
    told = isinstance(error, LorabenchError) and error.after_result
    report_failure(text, error, code, as_json=shared.json and not told)
    raise typer.Exit(code)


def report_failure(text: str, error: BaseException, code: int, *, as_json: bool) -> None:
    """Say on stderr what is wrong, and on stdout too if a program reads it."""
    lines = error.problems if isinstance(error, ConfigError) else [text]
    for line in lines:
        if line:
            print("lorabench:", shown(line, also="\t\n"), file=sys.stderr)  # noqa: T201
    if as_json:
        emit({"error": {"type": type(error).__name__, "messages": lines, "exit_code": code}})
