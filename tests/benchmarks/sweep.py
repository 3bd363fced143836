"""What a sweep costs besides its fine-tunes: the driver's time, the gaps between runs, memory as points grow.

    python tests/benchmarks/sweep.py                    # 50 and 300 fine-tunes with two workers
    python tests/benchmarks/sweep.py --points 50 --workers 1

Every fine-tune is as short as one can be, one step on the last layer, so that whatever surrounds it weighs most.
`busy` is the sum of the runs' own `wall_s`; what is missing to workers x wall is start-up, waiting and writing. On a
machine with other work to do trust the seconds of processor time, not the wall's. Reads /proc, so Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHORTEST = (
    *("holdout=1000", "pretrain.epochs=1", "pretrain.batch_size=60000", "finetune.epochs=1"),
    *("finetune.batch_size=60000", "finetune.targets=[fc3]", "threads=1"),
)
GRIDS = {50: (5, 2), 300: (10, 6)}
"""Points with five seeds: how many values of k, and of the learning rate."""


def children(pid: int) -> list[int]:
    """Ids of the processes that `pid` has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def sample(pid: int) -> tuple[float, float] | None:
    """A process's processor seconds so far, and the MB that it has in memory now; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return (int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page / 1e6


def measure(points: int, workers: int, runs: Path) -> None:
    """Run one sweep in an empty folder and print its figures."""
    ranks, lrs = GRIDS[points]
    command = [sys.executable, "-m", "lorabench", "sweep", "--seeds", "0-4", "-j", str(workers), "-q"]
    command += ["--grid", "k=" + ",".join(str(k + 1) for k in range(ranks))]
    command += ["--grid", "lora.lr=" + ",".join(f"{i + 1}e-3" for i in range(lrs))]
    command += [*(part for setting in SHORTEST for part in ("-s", setting)), "--runs-dir", str(runs)]
    began, started = time.time(), time.perf_counter()
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    seconds: dict[int, float] = {}
    memory: dict[int, list[float]] = {}
    while driver.poll() is None:
        for pid in (driver.pid, *children(driver.pid)):
            if (found := sample(pid)) and found[1]:
                seconds[pid] = found[0]
                memory.setdefault(pid, []).append(found[1])
        time.sleep(0.1)
    wall = time.perf_counter() - started
    if driver.returncode:
        raise SystemExit(driver.returncode)
    records = [json.loads(path.read_bytes()) for path in runs.glob("*/run.json")]
    busy = sum(record["cost"]["wall_s"] for record in records if record["cost"])
    startup = min(path.stat().st_mtime for path in runs.glob("*/config.yaml")) - began
    own = seconds[driver.pid]
    theirs = sum(seconds.values()) - own
    steady = workers * (wall - startup)
    print(f"{points} fine-tunes, {workers} worker(s)")
    print(f"  wall {wall:.1f} s, of which {startup:.1f} s before the first run; busy {busy:.1f} s in all workers")
    print(f"  without work after that: {100 * (1 - busy / steady):.1f}% of the workers' time")
    print(
        f"  driver: {own:.2f} s of processor, {100 * own / wall:.1f}% of the wall, {1000 * own / points:.1f} ms a point"
    )
    print(f"  driver / (driver + workers), processor seconds: {100 * own / (own + theirs):.1f}%")
    print(f"  {3600 * points / wall:,.0f} fine-tunes an hour; {theirs / points:.2f} s of processor each")
    for pid, seen in memory.items():
        late = seen[len(seen) // 2 :]
        name = "driver" if pid == driver.pid else "worker" if seconds[pid] > 1 else "helper"
        print(f"  {name}: {late[0]:.0f} MB at half time, {late[-1]:.0f} MB at the end, {max(seen):.0f} MB at most")


def main() -> None:
    """Measure every size that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, nargs="+", choices=sorted(GRIDS), default=sorted(GRIDS))
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    for points in asked.points:
        with tempfile.TemporaryDirectory() as scratch:
            measure(points, asked.workers, Path(scratch) / "runs")


if __name__ == "__main__":
    main()
