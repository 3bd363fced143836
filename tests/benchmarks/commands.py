"""Whole commands on what other hands have made: hostile runs folders, arguments, places and streams.

    python tests/benchmarks/commands.py --inputs 1000 --seed 0
    python tests/benchmarks/commands.py --seed 0 --first 417 --inputs 1       # that input again

Each input is a runs folder in which something is wrong, in a place with an odd name, and a command with odd values,
whose stdout or stderr may be closed or full. It runs in a process of its own, a fork of this one, so that its seconds
and its memory are its own. A fault is an exit code that no command has, a traceback or a bug, a character that steers a
terminal, JSON that is none, more than `SECONDS` of processor or `BYTES` of memory. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from lorabench import __main__ as program
from lorabench import cli, data, report
from lorabench.analysis import listing
from lorabench.report import costs, explain, shown, sweep
from lorabench.report.writers import terminal
from lorabench.runs import Store
from lorabench.scale import architectures

sys.path.insert(0, str(Path(__file__).parents[1]))
from collections.abc import Sequence

from benchmarks.fuzz import HOSTILE, damaged, mutated
from report_factory import failed, study

WARM = (cli, report, listing, explain, costs, shown, sweep, terminal, architectures)
"""Imported before the forks, which then have them."""
CODES = {0, 2, 3, 4, 5, 6, 7, 75}
SECONDS, BYTES = 10.0, 400_000_000
"""What a command may take of the processor, and of memory beside what this process has."""
PLACES = ["runs", "ru ns", "runs\n\x1b[2J", "runs\udcff", "-r", "r'u\"ns", "$(touch x)", "[bold]", "é" * 60]
PRECIOUS = "precious"
"""A file of somebody's, its content, and what links lead to."""
STREAMS = ["", "", "", "", ">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"]
ENCODINGS = ["utf-8", "utf-8", "ascii", "cp1252"]
ODD = [text for text in HOSTILE if isinstance(text, str)]
NAMES = ["lora-k4-s0", "lora-*", "*", "@last", "pretrain-s0-1b2c3d40", "fmnist", "lora", "[", "lora-k4-s7", *ODD]
CONDITIONS = ["k >= 4", "fmnist.accuracy < 97%", "id ~ 'lora*'", "not k", "k =", "x > 1", "fmnist.delta.low < 0", *ODD]
FIELDS = ["id", "k,lr", "-fmnist.accuracy", "help", "x", "settings.lr", "id,,id", *ODD]
SETS = ["finetune.k=8", "finetune.k=x", "seed=1e999", "pretrain.lr=nan", "study.seeds=0-99", "x=1", "=", *ODD]
VALUES: dict[str, Sequence[str]] = {
    "--where": CONDITIONS,
    "--fail-on": CONDITIONS,
    "--sort": FIELDS,
    "--cols": FIELDS,
    "--limit": ["1", "0", "-1", "x", "9" * 30],
    "--baseline": NAMES,
    "--study": ["study", "../x", *ODD],
    "--format": ["md", "csv", "tex", "html", "svg", "json", "x", "rich"],
    "--out": ["{place}/out.md", "{place}/out.html", "/dev/full", "{place}/no/out.md", "{place}", *ODD],
    "-s": SETS,
    "-c": ["study", "quick", "{place}/c.yaml", "{place}", "/dev/null", *ODD],
    "--seeds": ["0-1", "5-1", "x", "0-999999999", "1,1"],
    "--grid": ["k=1,2", "k=", "x=1", "holdout=1,2", *ODD],
    "--k": ["4", "-1", "9" * 30, "x"],
    "--sizes": ["3x4", "3x4,5x6", "0x1", "9999999999x9", *ODD],
    "--gpu-gb": ["1", "0", "999999", "x"],
    "--to": ["merged", "peft", "idx", "x"],
    "--json": (),
    "--studies": (),
    "--dry-run": (),
    "-q": (),
    "--force": (),
}
COMMANDS: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
    "ls": ((), ("--where", "--sort", "--cols", "--limit", "--json", "--studies"), ()),
    "report": (NAMES, ("--baseline", "--format", "--out", "--fail-on", "--study", "--json"), ()),
    "explain": (["lora", "dora", *NAMES], ("--json",), ()),
    "scale": (["gpt2", "mlp", "x", *ODD], ("--k", "--sizes", "--gpu-gb", "-s", "-c", "--json"), ()),
    "rm": (NAMES, ("--dry-run", "--json"), ()),
    "study": ((), ("-s", "-c", "--seeds", "--json", "--force"), ("--dry-run",)),
    "sweep": ((), ("--grid", "-s", "--seeds", "--json"), ("--grid", "k=1,2", "--dry-run")),
    "tune": ((), ("-s", "-c", "--json"), ("--dry-run",)),
    "finetune": (["lora", "dora", *ODD], ("--k", "-s", "-c", "--json"), ("--dry-run",)),
    "export": (NAMES, ("--to", "--json", "--force", "-q"), ("--to", "merged")),
    "evaluate": (NAMES, ("--json", "-q"), ()),
}
"""Of each command what it is given, its options, and what always stands there."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus a signal; seconds of processor; bytes at its most."""

    code: int
    seconds: float
    bytes: int
    out: bytes
    err: bytes


@dataclass
class Tally:
    """What was tried, and what was wrong with it."""

    tried: Counter[str] = field(default_factory=Counter[str])
    codes: Counter[int] = field(default_factory=Counter[int])
    faults: list[str] = field(default_factory=list[str])
    seconds: float = 0
    bytes: int = 0

    def __str__(self) -> str:
        tried = ", ".join(f"{name} {count}" for name, count in sorted(self.tried.items()))
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        return (
            f"{self.tried.total():,} commands ({tried}); exit codes {codes}; at most {self.seconds:.1f} s of processor "
            f"and {self.bytes / 1e6:.0f} MB; {len(self.faults)} faults"
        )


def arguments(chance: random.Random, place: Path) -> list[str]:
    """A command, with what it takes and what it does not."""
    name = chance.choice(list(COMMANDS))
    positional, options, always = COMMANDS[name]
    words = [name, *always]
    for _ in range(chance.choice([0, 1, 1, 2]) if positional else 0):
        words.append(chance.choice(positional))
    for option in chance.sample(options, chance.randrange(len(options) + 1)):
        words += [option, *([chance.choice(VALUES[option])] if VALUES[option] else [])]
    if chance.random() < 0.05:
        words.append(chance.choice(["--help", "--nonsense", "--debug", "\udcff"]))
    return [word.replace("{place}", str(place)).replace("\0", "") for word in words]


def spoiled(chance: random.Random, root: Path) -> None:
    """A runs folder of a small study, in which some things are not as they should be."""
    digits = {"labels": np.arange(10, dtype=np.uint8)}
    runs = [*study(range(chance.choice([1, 3]))), failed()]
    for run in runs:
        folder = root / run.id
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(run.model_dump_json(by_alias=True))
        np.savez(folder / "predictions.npz", allow_pickle=False, **digits)
    store = Store(root)
    store.remember_study("study", [run.id for run in runs])
    store.remember_bench({"batch_size": 64, "threads": 1, "rounds": 1, "costs": []})
    (root / "c.yaml").write_text("finetune: {k: 8}\n")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in chance.sample(files, chance.choice([0, 1, 1, 3])):
        spoil(chance, path, root.parent / PRECIOUS)


def spoil(chance: random.Random, path: Path, precious: Path) -> None:
    """Let the file be another one, none, or something else than a file."""
    content = path.read_bytes()
    path.unlink()
    fate = chance.randrange(10)
    if fate < 5 and path.suffix == ".json":
        value: Any = json.loads(content)
        for _ in range(chance.choice([1, 1, 3])):
            value = mutated(chance, value)
        path.write_bytes(json.dumps(value).encode())
    elif fate < 7:
        path.write_bytes(damaged(chance, content))
    elif fate == 7:
        os.mkfifo(path)
    elif fate == 8:
        path.symlink_to(chance.choice([path, Path("/dev/zero"), precious]))
    elif chance.random() < 0.5:
        path.mkdir()


def perform(words: Sequence[str], streams: str, env: dict[str, str], place: Path, out: Path, err: Path) -> Ended:
    """The command in a fork of this process, to its end."""
    out.touch()
    err.touch()
    pid = os.fork()
    if not pid:
        _child(words, streams, env, place, out, err)
    deadline = time.monotonic() + 12 * SECONDS
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    seconds = usage.ru_utime + usage.ru_stime
    return Ended(os.waitstatus_to_exitcode(status), seconds, 1024 * usage.ru_maxrss, out.read_bytes(), err.read_bytes())


def _child(words: Sequence[str], streams: str, env: dict[str, str], place: Path, out: Path, err: Path) -> NoReturn:
    """Be the command, with the streams that a shell would give it."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (int(2 * SECONDS), int(3 * SECONDS)))
        os.chdir(place.parent)
        for number, name, path in ((1, "stdout", out), (2, "stderr", err)):
            sign = {1: ">", 2: "2>"}[number]
            closed = f"{sign}&-" in streams.split()
            target = "/dev/full" if f"{sign}/dev/full" in streams.split() else path
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
            os.close(descriptor)
            if closed:
                os.close(number)
            stream = None if closed else open(number, "w", encoding=env["PYTHONIOENCODING"], closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        os.environ.update(env)
        sys.argv = ["lorabench", *words]
        program.main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except Exception:  # noqa: BLE001 - as Python itself would say it
        err.write_text(traceback.format_exc())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def faults(words: Sequence[str], ended: Ended, streams: str, spent: int) -> list[str]:
    """What is wrong with how a command ended; `spent` bytes it had from the start."""
    told = [] if ended.code in CODES else [f"exit code {ended.code}"]
    if b"Traceback" in ended.err and "--debug" not in words:
        told.append("a traceback")
    if b"a bug in" in ended.err:
        told.append("a bug")
    told += [f"{name} steers" for name in ("out", "err") if {27, 7} & set(getattr(ended, name))]
    told += [f"{ended.seconds:.1f} s of processor"] if ended.seconds > SECONDS else []
    told += [f"{(ended.bytes - spent) / 1e6:.0f} MB"] if ended.bytes - spent > BYTES else []
    if "--json" in words and not streams and "--help" not in words and ended.code != 2:
        try:
            json.loads(ended.out, parse_constant=_refuse)
        except ValueError as error:
            told.append(f"no JSON: {error}")
    return told


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def fuzz(inputs: int, seed: int, first: int = 0) -> Tally:
    """Give `inputs` commands what they do not expect."""
    tally = Tally()
    spent = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    env = {"LORABENCH_DATA": str(data.default_dir()), "NO_COLOR": "1"}
    for number in range(first, first + inputs):
        chance = random.Random(f"{seed}/{number}")
        folder = Path(tempfile.mkdtemp(prefix="lorabench-commands-"))
        try:
            # So deep that ../.. leads nowhere else.
            place = folder / "a" / "b" / "c" / chance.choice(PLACES)
            place.parent.mkdir(parents=True)
            (place.parent / PRECIOUS).write_text(PRECIOUS)
            spoiled(chance, place)
            words, streams = arguments(chance, place), chance.choice(STREAMS)
            env |= {"LORABENCH_RUNS": str(place), "PYTHONIOENCODING": chance.choice(ENCODINGS)}
            env["COLUMNS"] = chance.choice(["80", "80", "0", "1", "40", "100000", "x"])
            ended = perform(words, streams, env, place, folder / "out", folder / "err")
            harmed = (place.parent / PRECIOUS).read_text() != PRECIOUS
        finally:
            shutil.rmtree(folder)
        tally.tried[words[0]] += 1
        tally.codes[ended.code] += 1
        tally.seconds, tally.bytes = max(tally.seconds, ended.seconds), max(tally.bytes, ended.bytes - spent)
        if wrong := faults(words, ended, streams, spent) + ["wrote through a link"] * harmed:
            said = ended.err.decode(errors="backslashreplace")[-3_000:]
            typed = ascii(shlex.join(words))
            tally.faults.append(f"input {number} of seed {seed}: {', '.join(wrong)}\n  {typed} {streams} {env}\n{said}")
            print(tally.faults[-1], file=sys.stderr)
    return tally


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    given = parser.parse_args()
    tally = fuzz(given.inputs, given.seed, given.first)
    print(tally)
    raise SystemExit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
