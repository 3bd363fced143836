"""The application; the options that several commands have, and what every command does around its own work.

    @command()
    def pretrain(shared: Training) -> None: ...

`command` replaces the parameter `shared` by the options of its class, turns expected failures into one line on stderr
and their exit code, and answers Ctrl-C, SIGTERM and SIGHUP.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lorabench import __version__
from lorabench.cli import complete
from lorabench.cli.help import Command, Group
from lorabench.cli.streams import named_stdout
from lorabench.errors import ConfigError, LorabenchError, one_line, quoted, refusal, shown

if TYPE_CHECKING:
    from lorabench.runs import Store

SCHEMA = 1
INTERRUPTED, TERMINATED, BUG = 130, 143, 1

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


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived, or the terminal was closed: stop as for Ctrl-C, with another exit code."""


class Output:
    """The options of every command. Each class below adds a few: a command has the options that it reads, no others."""

    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)

    @property
    def flags(self) -> dict[str, Any]:
        """The settings that the command's options set, by config key; None where one is not given."""
        return {name: getattr(self, name) for name in ("seed", "device", "threads") if hasattr(type(self), name)}


class Messages(Output):
    """Of a command that says more than its result."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")] = False


class Folder(Output):
    """Of a command that looks into the runs folder."""

    runs_dir: Annotated[Path, typer.Option(envvar="LORABENCH_RUNS", metavar="DIR", help="Where runs are.")] = Path(
        "runs"
    )

    @property
    def store(self) -> Store:
        """The runs folder."""
        from lorabench.runs import Store

        return Store(self.runs_dir)

    def following(self, *words: object) -> str:
        """A further `lorabench` command as it can be pasted, which finds the same runs."""
        usual = Path(os.environ.get("LORABENCH_RUNS") or "runs")
        elsewhere = [] if self.runs_dir == usual else ["--runs-dir", self.runs_dir]
        return " ".join(map(quoted, ["lorabench", *words, *elsewhere]))


class Runs(Folder, Messages):
    """Of a command that takes runs by name, or keeps a record beside them."""


DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


class Removing(Runs):
    """Of a command that removes runs."""

    dry_run: DryRun = False


class Images(Runs):
    """Of a command that reads MNIST."""

    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="LORABENCH_DATA", metavar="DIR", help="Where MNIST is; default: the user's cache."),
    ] = None

    @property
    def typed_data_dir(self) -> Path | None:
        """The same if it was typed: what the environment says is for other commands too, and may be idle in this."""
        usual = os.environ.get("LORABENCH_DATA")
        return None if usual and Path(usual) == self.data_dir else self.data_dir


class Device(Runs):
    """Of a command that computes."""

    device: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|cuda|mps",
            autocompletion=complete.words("auto", "cpu", "cuda", "mps"),
            help="Where to compute.",
        ),
    ] = None
    threads: Annotated[int | None, typer.Option(help="Most threads of a training; they change no result.")] = None


class Models(Device, Images):
    """Of a command that opens runs and computes with them."""


class Writing(Images):
    """Of a command that makes something that may be there already."""

    force: Annotated[bool, typer.Option("--force", help="Make again what is there already.")] = False
    dry_run: DryRun = False


class Exporting(Models, Writing):
    """Of a command that takes runs elsewhere."""


class Making(Writing):
    """Of a command that makes runs."""

    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Give up (exit 75) on a run that another process makes.")
    ] = False


class Importing(Exporting, Making):
    """Of a command that makes a run of what was trained elsewhere."""


class Settings(Messages):
    """Of a command that reads a config."""

    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE|NAME",
            autocompletion=complete.configs,
            help="A YAML config, or study, methods, ...; again: later ones win.",
        ),
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="KEY=VALUE", autocompletion=complete.settings, help="One setting, e.g. finetune.k=8."
        ),
    ] = None


class Scaling(Settings, Device):
    """Of a command that reads a config, and may compute and keep a record, but makes no run."""


class Choosing(Settings, Making):
    """Of a command that makes a run by a seed, and trains nothing."""

    seed: Annotated[int | None, typer.Option(help="The seed that everything random follows.")] = None


class Training(Choosing, Models):
    """Of a command that trains."""


def emit(document: dict[str, Any]) -> None:
    """Print one JSON document with its schema."""
    with named_stdout():
        print(json.dumps({"schema": SCHEMA, **document}, indent=1, default=str))  # noqa: T201


def command(name: str | None = None, epilog: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command; its parameter `shared` becomes the options of the class that annotates it."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        kind: type[Output] = signature.parameters["shared"].annotation
        own = [p for p in signature.parameters.values() if p.name != "shared"]
        # In the help, what is peculiar to few commands comes first.
        common = [option for base in kind.__mro__ for option in _options(base)]

        @functools.wraps(function)
        def run(**given: Any) -> None:
            shared = kind(**{option.name: given.pop(option.name) for option in common})
            _guarded(functools.partial(function, shared=shared, **given), shared)

        run.__signature__ = inspect.Signature([*own, *common])  # pyright: ignore[reportAttributeAccessIssue]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *common]}
        return app.command(name, cls=Command, epilog=epilog)(run)

    return register


@functools.cache
def _options(kind: type) -> list[inspect.Parameter]:
    """The options that a class adds to those of its bases."""
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(kind, name), annotation=annotation)
        for name, annotation in inspect.get_annotations(kind, eval_str=True).items()
    ]


def _guarded(function: Callable[[], None], shared: Output) -> None:
    answering = threading.current_thread() is threading.main_thread()  # in another one no signal is answered
    previous = {number: signal.signal(number, _terminate) for number in _stopping()} if answering else {}
    try:
        function()
    except KeyboardInterrupt as error:
        code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        _fail("interrupted; the same command goes on from what is finished", error, code, shared)
    except LorabenchError as error:
        _fail(str(error), error, error.exit_code, shared)
    except BrokenPipeError:
        # The reader closed the pipe: exit 0, and let Python not complain about it when it closes stdout.
        sys.stdout = None
        raise typer.Exit from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(one_line(f"{named}{error.strerror or error}"), error, refusal(error).exit_code, shared)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is reported in one line, too
        _fail(f"a bug in lorabench: {type(error).__name__}: {error} (--debug shows where)", error, BUG, shared)
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _stopping() -> list[int]:
    """The signals that ask a command to stop. `nohup` has it ignore that its terminal is closed."""
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, signal.SIGHUP]


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    if sys.platform != "win32" and number == signal.SIGHUP:
        signal.signal(number, signal.SIG_IGN)  # the system and the shell both send it
    raise Terminated


def _fail(text: str, error: BaseException, code: int, shared: Output) -> NoReturn:
    if shared.debug:
        traceback.print_exception(error)
    shown_already = isinstance(error, LorabenchError) and error.after_result
    report_failure(text, error, code, as_json=shared.json and not shown_already)
    raise typer.Exit(code)


def report_failure(text: str, error: BaseException, code: int, *, as_json: bool) -> None:
    """Say on stderr what is wrong, and on stdout too if a program reads it."""
    lines = error.problems if isinstance(error, ConfigError) else [text]
    for line in lines:
        if line:
            with contextlib.suppress(OSError):  # a full disk, or a terminal that is gone: the exit code must do
                print("lorabench:", shown(line, also="\t\n"), file=sys.stderr)  # noqa: T201
    if as_json:
        with contextlib.suppress(OSError):  # it may be stdout that fails
            emit({"error": {"type": type(error).__name__, "messages": lines, "exit_code": code}})
