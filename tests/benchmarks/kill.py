"""Kills lorabench at random moments, runs the same command again, and compares with a run that nobody disturbed.

    python tests/benchmarks/kill.py --moments 100 --seed 0
    python tests/benchmarks/kill.py --moments 20 -- sweep --grid k=1,2 --seeds 0-1 -s study.workers=2
    python tests/benchmarks/kill.py --moments 100 --stop

SIGKILL goes to the driver, to one of its workers, or to all of its processes at once. With `--stop`, the command is
asked to stop instead: by SIGTERM, by SIGHUP as where its terminal is closed, or by Ctrl-C, which a terminal sends to
all processes as SIGINT. It must end by that and leave no run that says it were running; how long it took is printed.
After a few such moments in one runs folder the command runs to its end, with `--no-wait`, so that a lock that
outlived its process would show. Then the folder must hold the files of the undisturbed one, no more and no fewer,
with equal metrics and predictions. Reads /proc, so Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from lorabench.runs import Store

SMALL = [f"--set={part}.{setting}" for part in ("pretrain", "finetune") for setting in ("epochs=1", "batch_size=2048")]
STUDY = ["study", "--seeds", "0-1", "-s", "study.workers=2", "-s", "holdout=1000", "--threads", "1", *SMALL]
MARK = "LORABENCH_KILL_MARK"
PATIENCE = 300.0
"""Seconds after which a process that should have ended counts as one that hangs."""
PER_FOLDER = 4
"""Kills before the command is let run to its end."""


def living(mark: bytes) -> set[int]:
    """Ids of the processes that have `mark`, a `NAME=value`, in their environment, those that are only mourned not."""
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


class Command:
    """One start of lorabench, with every process that comes of it: they inherit a mark in their environment."""

    def __init__(self, arguments: list[str], runs: Path) -> None:
        self.mark = f"{MARK}={uuid.uuid4().hex}".encode()
        name, value = self.mark.decode().split("=")
        self.log = runs.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lorabench", *arguments, "--runs-dir", str(runs)],
                env={**os.environ, name: value},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def alive(self) -> dict[int, str]:
        """What the command's living processes are, by id: `driver`, `worker`, or `helper` (multiprocessing's own)."""
        found: dict[int, str] = {}
        for pid in living(self.mark):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                own = pid == self.process.pid
                found[pid] = "driver" if own else "worker" if b"spawn_main" in words else "helper"
        return found

    def ended(self) -> bool:
        """Wait until no process is left; false if one is there for longer than `PATIENCE`."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None and not self.alive():
                return True
            time.sleep(0.02)
        return False

    def kill(self, victim: str, chance: random.Random) -> str:
        """Send SIGKILL to the `driver`, a `worker` or to `all`; which it was, as there may be no worker."""
        alive = self.alive()
        workers = sorted(pid for pid, what in alive.items() if what == "worker")
        if victim == "worker" and not workers:
            victim = "driver"
        hit = {"driver": [self.process.pid], "worker": workers, "all": [*alive]}[victim]
        for pid in hit if victim == "all" else [chance.choice(hit)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return victim


@dataclass(frozen=True)
class Reference:
    """What the command leaves when nobody disturbs it, and how long it takes.

    `first` and `last` are the seconds from its start to its first word and to its end.
    """

    runs: Path
    first: float
    last: float


@dataclass
class Tally:
    """What was hit, and what was wrong afterwards."""

    victims: Counter[str] = field(default_factory=Counter[str])
    places: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])
    seconds: list[float] = field(default_factory=list[float])
    """From a polite signal to the end of the last process."""

    def __str__(self) -> str:
        def counts(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))

        kills = sum(self.victims.values())
        text = f"{kills} moments: {counts(self.victims)}; at {counts(self.places)}; {len(self.failures)} failures"
        if not self.seconds:
            return text
        middle, most = statistics.median(self.seconds), max(self.seconds)
        return f"{text}; stopped within {middle:.2f} s (median), {most:.2f} s (the slowest)"


def undisturbed(arguments: list[str], folder: Path) -> Reference:
    """Run the command once to its end, in `folder`/reference."""
    runs = folder / "reference"
    began = time.monotonic()
    command = Command(arguments, runs)
    while command.process.poll() is None and not command.log.stat().st_size:
        time.sleep(0.02)
    first = time.monotonic() - began
    if not command.ended() or command.process.returncode:
        raise RuntimeError(f"the undisturbed command failed:\n{command.log.read_text()}")
    return Reference(runs, first, time.monotonic() - began)


def strike(
    arguments: list[str], reference: Reference, runs: Path, tally: Tally, chance: random.Random, *, polite: bool
) -> bool:
    """Start the command and kill or stop it at a random moment; false if it had ended before.

    One moment in five lies anywhere, the others after the first word, when there is work to be destroyed.
    """
    left = _running(runs)
    command = Command(arguments, runs)
    if chance.random() < 0.2:
        moment = chance.uniform(0, reference.last)
    else:
        while command.process.poll() is None and not command.log.stat().st_size:
            time.sleep(0.005)
        moment = chance.uniform(0, reference.last - reference.first)
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.process.wait(moment)
    if command.process.poll() is not None:
        return False
    before = _place(runs)
    tally.places[before] += 1
    if polite:
        _stop(command, runs, left, tally, chance)
    else:
        tally.victims[command.kill(chance.choice(("driver", "worker", "all")), chance)] += 1
    if not command.ended():
        tally.failures.append(f"{runs.name}: {command.alive()} still live, killed {before}\n{command.log.read_text()}")
        command.kill("all", chance)
    if "Traceback" in (said := command.log.read_text()):
        tally.failures.append(f"{runs.name}: a traceback, killed {before}\n{said}")
    tally.failures += [f"{runs.name}: after a kill {folder.reason}" for folder in Store(runs).scan()[1]]
    return True


def _running(runs: Path) -> set[tuple[str, str]]:
    """Id and beginning of each run whose record says that it is being made."""
    records = [json.loads(path.read_text()) for path in runs.glob("*/run.json")]
    return {(record["id"], record["started"]) for record in records if record["status"] == "running"}


def _stop(command: Command, runs: Path, left: set[tuple[str, str]], tally: Tally, chance: random.Random) -> None:
    """Ask the command to stop, by one of three signals, and hold it to it. An earlier kill `left` its records."""
    sent = chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    tally.victims[sent.name] += 1
    began = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        if sent == signal.SIGTERM:
            command.process.terminate()
        else:
            os.killpg(command.process.pid, sent)
    if not command.ended():
        return
    tally.seconds.append(time.monotonic() - began)
    code, said = command.process.returncode, command.log.read_text()
    expected = 130 if sent == signal.SIGINT else 143
    if code not in (expected, -sent, 0):  # -sent: in Python's own first or last moment; 0: it was done just then
        tally.failures.append(f"{runs.name}: exit code {code} after {sent.name}\n{said}")
    own = sorted(_running(runs) - left)
    tally.failures += [f"{run_id}: running, after {sent.name}\n{said}" for run_id, _ in own]


def _place(runs: Path) -> str:
    """What the command is at: the first stage that is not done."""
    if (runs / ".studies").is_dir():
        return "the end"
    begun = {run.stage for run in Store(runs).scan()[0] if run.status == "running"}
    return next((stage for stage in ("finetune", "pretrain", "fmnist") if stage in begun), "start-up")


def finish(arguments: list[str], reference: Reference, runs: Path, tally: Tally) -> None:
    """Run the command to its end and compare what it leaves with the reference."""
    command = Command([*arguments, "--no-wait"], runs)
    if not command.ended() or command.process.returncode:
        said = command.log.read_text()
        tally.failures.append(f"{runs.name}: run again, it exits with {command.process.poll()}\n{said}")
        command.kill("all", random.Random(0))
        return
    tally.failures += [f"{runs.name}: {difference}" for difference in differences(reference.runs, runs)]


def differences(reference: Path, runs: Path) -> list[str]:
    """How what a command left in `runs` differs from what it left in `reference`."""
    old, new = ({str(path.relative_to(root)) for path in root.rglob("*")} for root in (reference, runs))
    found = [f"{name} is missing" for name in sorted(old - new)] + [f"{name} is too much" for name in sorted(new - old)]
    store, other = Store(reference), Store(runs)
    found += [folder.reason for folder in other.scan()[1]]
    theirs = {run.id: run for run in other.scan()[0]}
    for run in store.scan()[0]:
        again = theirs.get(run.id)
        if not again or (run.status, run.metrics, run.before) != (again.status, again.metrics, again.before):
            found.append(f"{run.id} is {again.status if again else 'not there'}, with other metrics")
            continue
        digits, others = store.predictions(run), other.predictions(again)
        if digits.keys() != others.keys() or not all(np.array_equal(digits[name], others[name]) for name in digits):
            found.append(f"{run.id} has other predictions")
    return found


def kill(arguments: list[str], moments: int, seed: int, folder: Path, polite: Sequence[bool] = (False,)) -> Tally:
    """Kill the command, or stop it where `polite`, in turn, says so, at so many moments, several in each runs folder.

    Every folder is held against the reference.
    """
    chance, tally, number = random.Random(seed), Tally(), 0
    reference = undisturbed(arguments, folder)
    while (done := sum(tally.victims.values())) < moments:
        number += 1
        runs = folder / f"killed-{number}"
        for moment in range(done, min(done + PER_FOLDER, moments)):
            if not strike(arguments, reference, runs, tally, chance, polite=polite[moment % len(polite)]):
                break
        finish(arguments, reference, runs, tally)
        print(tally, file=sys.stderr)
    return tally


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop", action="store_true", help="SIGTERM, Ctrl-C or a closed terminal, not SIGKILL")
    parser.add_argument("arguments", nargs="*", help="the command that is killed, after --; default: a tiny study")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        conclude(kill(given.arguments or STUDY, given.moments, given.seed, Path(folder), [given.stop]))


def conclude(tally: Tally) -> NoReturn:
    """Print what was tried and what failed, and end with 1 if anything did."""
    for failure in tally.failures:
        print(failure, file=sys.stderr)
    print(tally)
    raise SystemExit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
