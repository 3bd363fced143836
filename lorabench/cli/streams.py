"""Where output goes: results to stdout, the rest to stderr, whatever their encoding and their width.

fit()                       # once, where the process begins
stdout().print(renderable(table))
write_document(page)
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shutil
import sys
import unicodedata
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

STAND_INS = {
    "−": "-",
    "‖": "||",
    "·": "*",
    "⊙": "*",
    "⊗": "x",
    "√": "sqrt ",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "→": "->",
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "η": "eta",
    "λ": "lambda",
    "µ": "u",
    "Δ": "d",
    "Λ": "Lambda",
    "Γ": "Gamma",
    "Ξ": "Xi",
    "⌈": "ceil(",
    "⌉": ")",
    "Σ": "sum ",
    "∂": "d",
    "⁻": "-",
    "–": "-",
    "—": "-",
    "─": "-",
    "╌": "-",
    "┆": ":",
    "│": "|",
    "├": "|",
    "┤": "|",
    "●": "o",
    "▀": "^",
    "░": ":",
    **dict.fromkeys("▏▎▍▌▋▊▉", "|"),
    **dict(zip("▁▂▃▄▅▆▇█", "_.-:=+*#", strict=True)),
}
"""For what an encoding lacks: readable, and as wide where a picture is drawn of it."""


class _Heedless:
    """stderr where nobody may be: the disk behind it is full, the terminal gone. That costs nobody a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as the system takes it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush as far as the system takes it."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def fit() -> None:
    """Let this process write to whatever stdout and stderr are: closed, full, of another encoding, of no width."""
    # The number of a closed stream would be the next file's, and what a library prints would go into that.
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) < 3:
            pass
        os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="lorabench"))  # noqa: PTH123, SIM115 - open while we run
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lorabench")
    if not isinstance(sys.stderr, _Heedless):
        sys.stderr = cast("TextIO", _Heedless(sys.stderr))
    # Rich, and the help that Typer has it print, would take a width of 0 at its word.
    if not _width():
        os.environ.pop("COLUMNS", None)


def _width() -> int:
    wanted = os.environ.get("COLUMNS", "")
    return int(wanted) if wanted.isdecimal() else 0


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """What to write in place of the characters that the encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(readable, error.object[error.start : error.end])), error.end


codecs.register_error("lorabench", _stand_in)


def readable(character: str) -> str:
    """A character in ASCII: its stand-in, itself without accents, or a question mark."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return STAND_INS.get(character) or plain or "?"


@contextlib.contextmanager
def named_stdout() -> Generator[None]:
    """Let an error of the system's name stdout, as that of a file names the file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "stdout"  # what is drawn as it is printed may read a file
        raise


def stdout() -> Console:
    """Where results go. Piped output is as wide as COLUMNS says, or 100."""
    from rich.console import Console  # imported late: completion writes without it

    class Results(Console):
        def on_broken_pipe(self) -> None:
            """The reader closed the pipe: the command ends, with 0."""
            raise

        def print(self, *args: Any, **kwargs: Any) -> None:
            with named_stdout():
                super().print(*args, **kwargs)

    return Results(highlight=False, width=shutil.get_terminal_size((100, 25)).columns)


def stderr() -> Console:
    """Where progress and messages go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, force_interactive=sys.stderr.isatty())


def write_document(document: str) -> None:
    """Print a document. What is no terminal gets it in UTF-8, which a page and a picture say that they are in."""
    text = document.rstrip("\n") + "\n"
    binary = getattr(sys.stdout, "buffer", None)
    with named_stdout():
        if binary is None or sys.stdout.isatty():
            sys.stdout.write(text)
            return
        sys.stdout.flush()
        binary.write(text.encode(errors="lorabench"))
        binary.flush()
