"""Everything that can go wrong on purpose: one family of exceptions, each with its exit code.

The command line turns a `LorabenchError` into one line on stderr and its `exit_code`. Anything else is a bug (exit 1).
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Sequence


class LorabenchError(Exception):
    """Base of all expected failures: its arguments are the lines that the user reads, `str(error)` all of them."""

    exit_code = 1
    after_result = False
    """Whether the command has printed its result before: `--json` then prints no second document."""

    def __str__(self) -> str:
        return "\n".join(one_line(str(line)) for line in self.args)


class UsageError(LorabenchError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class ConfigError(LorabenchError):
    """One or more settings are invalid; `problems` holds a line for each of them."""

    exit_code = 3

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [one_line(problem) for problem in problems]
        super().__init__(self.problems)  # what a copy of it, made in another process, is built from

    def __str__(self) -> str:
        return "\n".join(self.problems)


class InputError(LorabenchError):
    """A file, a run or the data is missing, damaged, or not the one that was asked for."""

    exit_code = 4


class RunFailedError(LorabenchError):
    """A run started and could not finish properly: the loss became NaN, memory or disk ran out."""

    exit_code = 5


class WorkerDiedError(RunFailedError):
    """A worker process ended in the middle of its work; `how` says by which signal."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __str__(self) -> str:
        return f"a worker process died: {self.how}"


class GateError(LorabenchError):
    """The study ran, and a declared expectation does not hold."""

    exit_code = 6
    after_result = True


class PartialError(LorabenchError):
    """A sweep finished, and some of its points failed."""

    exit_code = 7
    after_result = True


class LockedError(LorabenchError):
    """Another live process holds what this one needs."""

    exit_code = 75


def one_line(text: str) -> str:
    """`text` on one line, though a path in it is named with a line's end."""
    return "�".join(text.splitlines())


def shown(text: str, also: str = "") -> str:
    """`text` without what no terminal should be sent; the characters of `also` stay."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in also else "�" for c in text)


def refusal(error: OSError) -> type[LorabenchError]:
    """What a refusal of the system's is: a full disk, a run's failure, or an input that is in the wrong place."""
    return RunFailedError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else InputError


def quoted(word: object) -> str:
    """A path or another word of a command as a shell takes it: printable, whatever its bytes are."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    plain = (c if c.isprintable() and c not in "\\'" else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in text)
    return f"$'{''.join(plain)}'"
