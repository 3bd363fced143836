"""A Dask cluster of machines that are disturbed: what a study leaves is what it leaves without a cluster.

    python tests/benchmarks/cluster.py --moments 10 --seed 0

The scheduler, two workers and the driver each run in a network namespace of their own, joined by a bridge, where the
system allows that (Linux, root, `ip`), or else as processes on the loopback interface, which is said. At a random
moment a worker, the scheduler or the driver is killed, or the link of one of them is cut for a while. What was killed
is started anew, the driver last, and the same command runs to its end. The folder must then hold the runs of a study on
one machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.kill import STUDY, Tally, conclude, differences

PARTS = {"scheduler": 1, "first": 2, "second": 3, "driver": 4}
"""Who there is, and the last number of his address."""
COMMAND = [*STUDY, "-s", "pretrain.epochs=3"]
PATIENCE = 300.0
FATES = ["kill first", "kill second", "kill scheduler", "kill driver", "cut first", "cut scheduler", "cut driver"]


class Net:
    """The addresses of all parts; with namespaces, a link for each that can be cut."""

    def __init__(self) -> None:
        self.mark = f"lb{os.getpid() % 100_000}"
        self.apart = bool(shutil.which("ip")) and os.geteuid() == 0 and self._ip("netns", "add", self.mark)
        if not self.apart:
            return
        inside = ("-n", self.mark)
        self._ip(*inside, "link", "add", "hub", "type", "bridge")
        self._ip(*inside, "link", "set", "hub", "up")
        for part, number in PARTS.items():
            place, end = f"{self.mark}{number}", f"to{number}"
            self._ip("netns", "add", place)
            self._ip(*inside, "link", "add", end, "type", "veth", "peer", "name", "eth", "netns", place)
            self._ip(*inside, "link", "set", end, "master", "hub", "up")
            for words in (
                ("addr", "add", f"{self.address(part)}/24", "dev", "eth"),
                ("link", "set", "eth", "up"),
                ("link", "set", "lo", "up"),
            ):
                self._ip("-n", place, *words)

    def _ip(self, *words: str) -> bool:
        return not subprocess.run(["ip", *words], capture_output=True, check=False).returncode

    def address(self, part: str) -> str:
        return f"10.97.31.{PARTS[part]}" if self.apart else "127.0.0.1"

    def command(self, part: str, *words: str) -> list[str]:
        """A Python program as `part` runs it."""
        place = ["ip", "netns", "exec", f"{self.mark}{PARTS[part]}"] if self.apart else []
        return [*place, sys.executable, "-m", *words]

    def link(self, part: str, state: str) -> None:
        """Let the link of `part` be `up` or `down`."""
        self._ip("-n", self.mark, "link", "set", f"to{PARTS[part]}", state)

    def close(self) -> None:
        if self.apart:
            for name in (*(f"{self.mark}{number}" for number in PARTS.values()), self.mark):
                self._ip("netns", "del", name)


class Machines:
    """The processes of all parts; `log` is what all of them say."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.net, self.folder, self.log = net, folder, folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for part in ("scheduler", "first", "second"):
            self.start(part)

    def start(self, part: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a part, the driver with the `arguments` of its command."""
        host, address = f"{self.net.address('scheduler')}:{self.port}", self.net.address(part)
        words = {
            "scheduler": ["distributed.cli.dask_scheduler", "--host", address, "--port", self.port, "--no-dashboard"],
            "driver": ["lorabench", *arguments, "--engine", f"dask://{host}"],
        }.get(
            part,
            ["distributed.cli.dask_worker", host, "--host", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"],
        )
        with self.log.open("ab") as log:
            command = self.net.command(part, *words)
            self.running[part] = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        return self.running[part]

    def kill(self, part: str) -> None:
        """Kill a part with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running[part].pid, signal.SIGKILL)
        self.running[part].wait()

    def revive(self) -> None:
        """Start what is not there; a worker whose scheduler went has gone with it, in time."""
        for part in ("scheduler", "first", "second"):
            self.net.link(part, "up")
            self.kill(part)
            self.start(part)

    def close(self) -> None:
        for part in self.running:
            self.kill(part)


def disturb(machines: Machines, runs: Path, fate: str, seconds: float, chance: random.Random) -> bool:
    """Start the command and do `fate` to it after some seconds; false if it had ended before."""
    driver = machines.start("driver", *COMMAND, "--runs-dir", str(runs))
    with contextlib.suppress(subprocess.TimeoutExpired):
        driver.wait(seconds)
        return False
    deed, _, part = fate.partition(" ")
    if deed == "kill":
        machines.kill(part)
    else:
        machines.net.link(part, "down")
        time.sleep(chance.uniform(0.5, 8))
        machines.net.link(part, "up")
    with contextlib.suppress(subprocess.TimeoutExpired):
        driver.wait(30)  # it may go on, or say that the cluster is gone
    machines.kill("driver")
    return True


def finish(machines: Machines, reference: Path, runs: Path, tally: Tally) -> None:
    """Run the command to its end on machines that are whole, and compare what it leaves."""
    machines.revive()
    for _ in range(20):  # until the workers are there
        driver = machines.start("driver", *COMMAND, "--runs-dir", str(runs))
        if driver.wait(PATIENCE) != 4:
            break
        time.sleep(1)
    said = machines.log.read_text(errors="replace")[-3_000:]
    if machines.running["driver"].returncode:
        tally.failures.append(f"{runs.name}: run again, it exits with {machines.running['driver'].returncode}\n{said}")
    tally.failures += [f"{runs.name}: {difference}" for difference in differences(reference, runs)]
    if "a bug in lorabench" in said or ", in lorabench" in said:
        tally.failures.append(f"{runs.name}: a bug\n{said}")


def disturbed(moments: int, seed: int, folder: Path) -> Tally:
    """Disturb a study at so many moments, each in a runs folder of its own."""
    chance, tally, net = random.Random(seed), Tally(), Net()
    where = "network namespaces" if net.apart else "processes on the loopback interface: no namespaces are allowed here"
    print(where, file=sys.stderr)
    reference = folder / "reference"
    command = [sys.executable, "-m", "lorabench", *COMMAND, "--runs-dir", str(reference)]
    subprocess.run(command, check=True, capture_output=True)
    with contextlib.closing(net), contextlib.closing(Machines(net, folder)) as machines:
        began = time.monotonic()
        finish(machines, reference, folder / "whole", tally)
        whole = time.monotonic() - began
        while sum(tally.victims.values()) < moments:
            runs = folder / f"disturbed-{sum(tally.victims.values())}"
            fate = chance.choice(FATES if net.apart else [fate for fate in FATES if fate.startswith("kill")])
            if disturb(machines, runs, fate, chance.uniform(0.3, 1) * whole, chance):
                tally.victims[fate] += 1
                tally.places[where.partition(":")[0]] += 1
                finish(machines, reference, runs, tally)
                print(tally, file=sys.stderr)
            shutil.rmtree(runs, ignore_errors=True)
    return tally


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        conclude(disturbed(given.moments, given.seed, Path(folder)))


if __name__ == "__main__":
    main()
